"""The metrics of a repeated run next to those of its record, and whether they agree."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from ..evaluation.heldout.schema import (
    BAD,
    GOOD,
    OVER_REFUSAL,
    HeldoutReport,
    KLStatistics,
    ModelMetrics,
    Rate,
    StoredValue,
)
from ..evaluation.rounding import Rounding
from ..evaluation.statistics import rate
from ..study.metrics import BaselineMetric
from ..study.schema import BaselineRecord, TrialRecord
from .tables import model_name

Verdict = Literal["exactly", "within the interval", "no"]

SETS = {BAD: "bad", GOOD: "good", OVER_REFUSAL: "look harmful"}
SAME = 1e-9
"""Relative difference that writing a number as decimals and reading it again can make."""


class ComparedMetric(StoredValue):
    """One metric as recorded and as measured now; None if it could not be measured.

    To agree, it must lie from `low` to `high`: within the recorded value's interval, or within rounding.
    """

    subject: str
    metric: str
    recorded: float | None
    now: float | None
    low: float | None
    high: float | None
    of: int | None = None

    @property
    def verdict(self) -> Verdict:
        if self.recorded is None or self.now is None:
            return "exactly" if self.recorded is self.now else "no"
        if math.isclose(self.recorded, self.now, rel_tol=SAME, abs_tol=1e-12):
            return "exactly"
        inside = self.low is not None and self.high is not None and self.low <= self.now <= self.high
        return "within the interval" if inside else "no"


class Difference(StoredValue):
    """A version, a device or the like that differs from the recorded one."""

    name: str
    recorded: str
    now: str


class Reproduction(StoredValue):
    """The outcome of a repeated run. `whole`: the search was repeated too, rather than the recorded trials alone.

    `not_repeated` names parts of the record that were not measured again.
    """

    version: Literal[2] = 2
    source: str
    study: str
    whole: bool
    metrics: list[ComparedMetric]
    differences: list[Difference]
    not_repeated: list[str]

    @property
    def agrees(self) -> bool:
        return bool(self.metrics) and all(each.verdict != "no" for each in self.metrics)

    def count(self, verdict: Verdict) -> int:
        return sum(each.verdict == verdict for each in self.metrics)


def compare_baselines(recorded: BaselineRecord, now: BaselineRecord, rounding: Rounding) -> list[ComparedMetric]:
    """The baseline's metrics in the search; distances from the baseline are left out."""
    return [
        _compare_metric(
            model_name(None), metric, metric.value, now.value(name) if name in now.metrics else None, rounding
        )
        for name, metric in recorded.metrics.items()
        if metric.of is not None or metric.value
    ]


def compare_trial(
    recorded: TrialRecord, now: TrialRecord | None, baseline: BaselineRecord, rounding: Rounding
) -> list[ComparedMetric]:
    """A trial's metrics in the search: counts within their Wilson interval, real numbers within rounding.

    A recorded lower bound, of a pruned trial, agrees with all values above it too.
    """
    return [
        _compare_metric(
            model_name(recorded.number),
            metric,
            recorded.value(name),
            now.value(name) if now is not None and name in now.metrics else None,
            rounding,
            bound=recorded.metrics[name].censored,
        )
        for name, metric in baseline.metrics.items()
    ]


def _compare_metric(
    subject: str,
    metric: BaselineMetric,
    recorded: float,
    now: float | None,
    rounding: Rounding,
    bound: bool = False,
) -> ComparedMetric:
    title = f"{metric.label}{', at least' if bound else ''} (search)"
    if metric.of is not None:
        after = None if now is None else rate(int(now), metric.of)
        compared = _count(subject, title, rate(int(recorded), metric.of), after)
        return compared.model_copy(update={"high": float(metric.of)}) if bound else compared
    allowed = rounding[0] + rounding[1] * abs(recorded)
    return ComparedMetric(
        subject=subject, metric=title, recorded=recorded, now=now, low=recorded - allowed, high=recorded + allowed
    )


def compare_measured(
    recorded: HeldoutReport, now: HeldoutReport | None, numbers: Mapping[int, int]
) -> list[ComparedMetric]:
    """Held-out metrics; `numbers` are the present numbers of the recorded trials."""
    found = {each.trial: each for each in now.models} if now else {}
    compared = []
    for model in recorded.models:
        counterpart = found.get(None if model.trial is None else numbers.get(model.trial))
        compared += list(_compare_models(model, counterpart, recorded))
    return compared


def _compare_models(
    recorded: ModelMetrics, now: ModelMetrics | None, report: HeldoutReport
) -> Iterator[ComparedMetric]:
    subject = model_name(recorded.trial)
    for name, title in SETS.items():
        before, after = recorded.sets.get(name), now.sets.get(name) if now is not None else None
        if before is not None:
            for kind in ("declined", "broken", "markers"):
                counted = None if after is None else getattr(after.classes, kind)
                yield _count(subject, f"{title}: {kind}", getattr(before.classes, kind), counted)
    if recorded.trial is not None:
        for title, name, null in (
            ("KL (held-out)", "kl_first", report.null_kl_first),
            ("KL along answers", "kl_answers", report.null_kl_answers),
        ):
            divergence: KLStatistics | None = getattr(recorded, name)
            if divergence is not None:
                yield _divergence(subject, title, divergence, getattr(now, name) if now is not None else None, null)


def _divergence(
    subject: str, title: str, recorded: KLStatistics, now: KLStatistics | None, null: KLStatistics | None
) -> ComparedMetric:
    """A mean within its bootstrap interval, widened by the divergence that rounding alone gives the baseline."""
    # If another number of prompts is infinite, the means are over different prompts.
    comparable = now is not None and now.infinite == recorded.infinite
    slack = 0.0 if null is None else null.high
    return ComparedMetric(
        subject=subject,
        metric=title,
        recorded=recorded.mean,
        now=now.mean if now is not None and comparable else None,
        low=recorded.low - slack,
        high=recorded.high + slack,
    )


def _count(subject: str, title: str, recorded: Rate, now: Rate | None) -> ComparedMetric:
    return ComparedMetric(
        subject=subject,
        metric=title,
        recorded=recorded.count,
        now=now.count if now is not None and now.of == recorded.of else None,
        low=recorded.low * recorded.of,
        high=recorded.high * recorded.of,
        of=recorded.of,
    )


def differences(recorded: Mapping[str, str], now: Mapping[str, str]) -> list[Difference]:
    """Entries that differ; `-` is a missing one."""
    names = dict.fromkeys([*recorded, *now])
    return [
        Difference(name=name, recorded=recorded.get(name, "-"), now=now.get(name, "-"))
        for name in names
        if recorded.get(name) != now.get(name)
    ]


def summary(reproduction: Reproduction) -> list[str]:
    """The outcome in sentences."""
    exactly, within, no = (reproduction.count(verdict) for verdict in ("exactly", "within the interval", "no"))
    lines = [
        f"Of {len(reproduction.metrics)} metrics, {exactly} agree exactly, {within} within the interval, {no} do not."
    ]
    if reproduction.not_repeated:
        lines.append(f"In the record and not measured again: {', '.join(reproduction.not_repeated)}.")
    lines.append("The metrics agree." if reproduction.agrees else "The metrics do not agree.")
    return lines


def value_text(metric: ComparedMetric, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}/{metric.of}" if metric.of is not None else f"{value:.6f}"


def interval_text(metric: ComparedMetric) -> str:
    if metric.low is None or metric.high is None:
        return "-"
    low, high = max(0.0, metric.low), metric.high
    return f"{low:.1f}-{high:.1f}" if metric.of is not None else f"{low:.4f}-{high:.4f}"


def rows_of(metrics: Sequence[ComparedMetric]) -> list[tuple[str, ...]]:
    return [
        (
            each.subject,
            each.metric,
            value_text(each, each.recorded),
            interval_text(each),
            value_text(each, each.now),
            each.verdict,
        )
        for each in metrics
    ]
