"""Whether the figures of a run agree with those that a record of it states."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from ..evaluation.heldout.schema import Classes, Figure, HeldoutReport, KLFigures, ModelMetrics, Rate
from ..evaluation.rounding import Rounding
from ..evaluation.statistics import rate
from ..study.schema import BaselineRecord, TrialRecord

Verdict = Literal["exactly", "within the interval", "no"]

OVER = "over-refusals (search)"
SAME = 1e-9
"""Relative: a figure that was written as decimals and read again is no further from itself."""


class ComparedFigure(Figure):
    """One figure as recorded and as measured now; what could not be measured is None.

    `low` and `high` are the bounds that it must lie in to agree: the recorded figure's interval, or what rounding does.
    """

    subject: str
    figure: str
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


class Difference(Figure):
    """A version, a device or the like that is not what it was."""

    name: str
    recorded: str
    now: str


class Reproduction(Figure):
    """What came of running something again. `whole`: the search too, not the recorded trials alone.

    `not_repeated` names what the record holds and nobody measured now.
    """

    version: Literal[1] = 1
    source: str
    study: str
    whole: bool
    figures: list[ComparedFigure]
    differences: list[Difference]
    not_repeated: list[str]

    @property
    def agrees(self) -> bool:
        return bool(self.figures) and all(each.verdict != "no" for each in self.figures)

    def count(self, verdict: Verdict) -> int:
        return sum(each.verdict == verdict for each in self.figures)


def compare_baselines(recorded: BaselineRecord, now: BaselineRecord) -> list[ComparedFigure]:
    figures = [_count("the model itself", "refusals (search)", _rate_of(recorded), _rate_of(now))]
    if recorded.over_refusals is None:
        return figures
    before, after = (
        None if b.over_refusals is None else rate(b.over_refusals, b.over_prompts or 0) for b in (recorded, now)
    )
    assert before is not None
    return [*figures, _count("the model itself", OVER, before, after)]


def compare_trial(
    recorded: TrialRecord, now: TrialRecord | None, baseline: BaselineRecord, rounding: Rounding
) -> list[ComparedFigure]:
    """A trial's figures in the search: refusals within their Wilson interval, KL within what rounding may do."""
    subject = f"trial {recorded.number}"
    refusals = _count(
        subject,
        "refusals (search)",
        rate(recorded.refusals, baseline.prompts),
        None if now is None else rate(now.refusals, baseline.prompts),
    )
    allowed = rounding[0] + rounding[1] * recorded.kl_divergence
    divergence = ComparedFigure(
        subject=subject,
        figure="KL (search)",
        recorded=recorded.kl_divergence,
        now=None if now is None else now.kl_divergence,
        low=recorded.kl_divergence - allowed,
        high=recorded.kl_divergence + allowed,
    )
    if recorded.over_refusals is None:
        return [refusals, divergence]
    harmless = baseline.over_prompts or 0
    before = rate(recorded.over_refusals, harmless)
    after = None if now is None or now.over_refusals is None else rate(now.over_refusals, harmless)
    return [refusals, divergence, _count(subject, OVER, before, after)]


def compare_measured(
    recorded: HeldoutReport, now: HeldoutReport | None, numbers: Mapping[int, int]
) -> list[ComparedFigure]:
    """What was measured at the end; `numbers` are the present numbers of the recorded trials."""
    found = {each.trial: each for each in (now.baseline, *now.candidates)} if now else {}
    compared = []
    for model in (recorded.baseline, *recorded.candidates):
        counterpart = found.get(None if model.trial is None else numbers.get(model.trial))
        compared += list(_compare_models(model, counterpart, recorded))
    return compared


def _compare_models(
    recorded: ModelMetrics, now: ModelMetrics | None, figures: HeldoutReport
) -> Iterator[ComparedFigure]:
    subject = "the model itself" if recorded.trial is None else f"trial {recorded.trial}"
    for title, name in (("bad", "bad"), ("good", "good"), ("look harmful", "over_refusal")):
        before: Classes | None = getattr(recorded, name)
        after: Classes | None = getattr(now, name) if now is not None else None
        if before is not None:
            for kind in ("declined", "broken", "markers"):
                yield _count(
                    subject, f"{title}: {kind}", getattr(before, kind), None if after is None else getattr(after, kind)
                )
    if recorded.trial is not None:
        for title, name, null in (
            ("KL (unseen)", "kl_first", figures.null_kl_first),
            ("KL along answers", "kl_answers", figures.null_kl_answers),
        ):
            divergence: KLFigures | None = getattr(recorded, name)
            if divergence is not None:
                yield _divergence(subject, title, divergence, getattr(now, name) if now is not None else None, null)


def _divergence(
    subject: str, title: str, recorded: KLFigures, now: KLFigures | None, null: KLFigures | None
) -> ComparedFigure:
    """A mean within its bootstrap interval, which is as much wider as the model differs from itself by rounding."""
    # Where a prompt's divergence became infinite, or no longer is, the means are of other prompts.
    comparable = now is not None and now.infinite == recorded.infinite
    slack = 0.0 if null is None else null.high
    return ComparedFigure(
        subject=subject,
        figure=title,
        recorded=recorded.mean,
        now=now.mean if now is not None and comparable else None,
        low=recorded.low - slack,
        high=recorded.high + slack,
    )


def _count(subject: str, title: str, recorded: Rate, now: Rate | None) -> ComparedFigure:
    return ComparedFigure(
        subject=subject,
        figure=title,
        recorded=recorded.count,
        now=now.count if now is not None and now.of == recorded.of else None,
        low=recorded.low * recorded.of,
        high=recorded.high * recorded.of,
        of=recorded.of,
    )


def differences(recorded: Mapping[str, str], now: Mapping[str, str]) -> list[Difference]:
    """Entries that are not the same in both; what one of them lacks is `-`."""
    names = dict.fromkeys([*recorded, *now])
    return [
        Difference(name=name, recorded=recorded.get(name, "-"), now=now.get(name, "-"))
        for name in names
        if recorded.get(name) != now.get(name)
    ]


def summary(reproduction: Reproduction) -> list[str]:
    """What came of it, in sentences."""
    exactly, within, no = (reproduction.count(verdict) for verdict in ("exactly", "within the interval", "no"))
    lines = [
        f"Of {len(reproduction.figures)} figures, {exactly} agree exactly, {within} within the interval, {no} do not."
    ]
    if reproduction.not_repeated:
        lines.append(f"In the record and not measured again: {', '.join(reproduction.not_repeated)}.")
    lines.append("The figures agree." if reproduction.agrees else "The figures do not agree.")
    return lines


def figure_text(figure: ComparedFigure, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}/{figure.of}" if figure.of is not None else f"{value:.6f}"


def interval_text(figure: ComparedFigure) -> str:
    if figure.low is None or figure.high is None:
        return "-"
    low, high = max(0.0, figure.low), figure.high
    return f"{low:.1f}-{high:.1f}" if figure.of is not None else f"{low:.4f}-{high:.4f}"


def rows_of(figures: Sequence[ComparedFigure]) -> list[tuple[str, ...]]:
    return [
        (
            each.subject,
            each.figure,
            figure_text(each, each.recorded),
            interval_text(each),
            figure_text(each, each.now),
            each.verdict,
        )
        for each in figures
    ]


def _rate_of(baseline: BaselineRecord) -> Rate:
    return rate(baseline.refusals, baseline.prompts)
