"""Measures candidates against the baseline: a loop over scorers."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..ablation.edit import ModelEdit
from ..engine.protocol import Engine, Progress, no_progress
from ..errors import CandidateError
from ..study.metrics import BaselineMetric, Metric
from ..study.schema import BaselineRecord
from .pruning.preview import Preview
from .pruning.statistics import PruningStatistics
from .scorers.base import BaselineMeasurement, Measurement, Scorer, ScoringRun, Show

Baseline = Mapping[str, BaselineMeasurement]
"""The measurements of the unmodified model, by metric."""

Limit = Callable[[str, Mapping[str, float]], float | None]
"""From the name of a metric and a candidate's other metrics to the value at which the candidate is dominated; None if
no value of the metric makes it so."""

Known = Mapping[str, float]
"""Final metrics of a candidate that a preview has already measured."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The measurements of one candidate, by metric."""

    metrics: Mapping[str, Measurement]

    @property
    def pruned(self) -> bool:
        return any(each.censored for each in self.metrics.values())

    @property
    def declined_at(self) -> tuple[int | None, ...] | None:
        """For each prompt of a full evaluation, the token at which a refusal was known (None: there was none)."""
        found = (each.declined_at for each in self.metrics.values())
        return next((each for each in found if each is not None), None)

    def recorded(self) -> dict[str, Metric]:
        """The metrics as a trial records them."""
        return {name: Metric(value=each.value, censored=each.censored) for name, each in self.metrics.items()}


class Evaluator:
    """Measures edits of one engine's model by its scorers. It keeps no state: equal arguments give equal metrics.

    `show` receives the responses that are counted.
    """

    def __init__(self, engine: Engine, scorers: Sequence[Scorer], show: Show | None = None) -> None:
        self.engine = engine
        self.scorers = tuple(scorers)
        self._show = show

    @property
    def rows(self) -> int:
        """The prompts that one candidate runs: the unit of progress."""
        return sum(scorer.rows for scorer in self.scorers)

    @property
    def prunes(self) -> bool:
        """Whether a dominated candidate may end early, so that the order of evaluation matters."""
        return any(scorer.prunes for scorer in self.scorers)

    def baseline(self, progress: Progress = no_progress, recorded: BaselineRecord | None = None) -> Baseline:
        """The unmodified model's measurements; values that are `recorded` are not measured again.

        Raises:
            CandidateError: it can't be measured.
            ModelError: a search from it makes no sense, since it declines nothing.
        """
        measured = self._baseline(self.scorers, progress, recorded)
        for scorer in self.scorers if recorded is None else ():
            scorer.check(measured[scorer.name])
        return measured

    def reference(self, progress: Progress = no_progress) -> Baseline:
        """The part of the baseline without which candidates can't be measured."""
        return self._baseline([scorer for scorer in self.scorers if scorer.needs_baseline], progress, None)

    def _baseline(
        self, scorers: Sequence[Scorer], progress: Progress, recorded: BaselineRecord | None
    ) -> dict[str, BaselineMeasurement]:
        run = ScoringRun(self.engine, progress, show=self._show)
        measured: dict[str, BaselineMeasurement] = {}
        for scorer in scorers:
            known = None if recorded is None else recorded.metrics.get(scorer.name)
            measured[scorer.name] = scorer.baseline(run, measured, known)
        return measured

    def record(self, baseline: Baseline) -> BaselineRecord:
        """The baseline as a study records it; the primary metric comes first."""
        ordered = sorted(self.scorers, key=lambda scorer: not scorer.primary)
        return BaselineRecord(metrics={scorer.name: scorer.describe(baseline[scorer.name]) for scorer in ordered})

    def statistics(self, baseline: Baseline) -> PruningStatistics:
        """The statistics that a search begins with: those of the baseline, unless it was recorded before."""
        declined_at = next((each.declined_at for each in baseline.values() if each.declined_at is not None), None)
        prompts = next((scorer.rows for scorer in self.scorers if scorer.primary), 0)
        empty = PruningStatistics.of(prompts)
        return empty if declined_at is None else empty.learn(declined_at)

    def scores(self, evaluation: Evaluation, baseline: Baseline) -> tuple[float, ...]:
        """The objectives that the sampler minimises, one a scorer."""
        primary = next(scorer for scorer in self.scorers if scorer.primary)
        first = primary.score(evaluation.metrics, baseline, math.nan)
        return tuple(
            first if scorer is primary else scorer.score(evaluation.metrics, baseline, first) for scorer in self.scorers
        )

    def evaluate(
        self,
        edits: Sequence[ModelEdit],
        baseline: Baseline,
        progress: Progress = no_progress,
        limit: Limit | None = None,
        numbers: Sequence[int] | None = None,
        statistics: PruningStatistics | None = None,
        known: Sequence[Known] | None = None,
    ) -> list[Evaluation | CandidateError]:
        """The evaluation of each candidate, or why it can't be measured; with a `limit`, dominated ones end early.

        `numbers` are those of the candidates' trials, for `show`. Metrics that are `known` from a preview are not
        measured again. Scorers that need a baseline and find none are left out.
        """
        outcomes: list[dict[str, Measurement] | CandidateError] = [
            {name: Measurement(value) for name, value in (known[index] if known else {}).items()}
            for index in range(len(edits))
        ]
        run = ScoringRun(self.engine, progress, statistics=statistics or self.statistics(baseline), show=self._show)
        for scorer in self._in_order():
            if scorer.needs_baseline and scorer.name not in baseline:
                continue
            missing = [
                index for index, each in enumerate(outcomes) if isinstance(each, dict) and scorer.name not in each
            ]
            if not missing:
                continue
            its_run = replace(
                run,
                numbers=[numbers[index] if numbers else None for index in missing],
                limits=[_limit(scorer, limit, outcomes[index]) for index in missing],
            )
            found = scorer.measure(its_run, [edits[index] for index in missing], baseline)
            for index, measurement in zip(missing, found, strict=True):
                outcomes[index] = _with(outcomes[index], scorer, measurement)
        return [self._evaluation(each) for each in outcomes]

    def _evaluation(self, outcome: dict[str, Measurement] | CandidateError) -> Evaluation | CandidateError:
        if isinstance(outcome, CandidateError):
            return outcome
        ordered = sorted(self.scorers, key=lambda scorer: not scorer.primary)
        return Evaluation({each.name: outcome[each.name] for each in ordered if each.name in outcome})

    def describe(self, evaluation: Evaluation) -> dict[str, BaselineMetric | None]:
        """The evaluation of a model as if it were a baseline; None for metrics that were not measured."""
        ordered = sorted(self.scorers, key=lambda scorer: not scorer.primary)
        return {
            scorer.name: scorer.describe(BaselineMeasurement(evaluation.metrics[scorer.name].value))
            if scorer.name in evaluation.metrics
            else None
            for scorer in ordered
        }

    def _in_order(self) -> list[Scorer]:
        """The scorer that prunes comes last: its limit depends on the other metrics."""
        return sorted(self.scorers, key=lambda scorer: scorer.prunes)

    def preview(
        self,
        edits: Sequence[ModelEdit],
        baseline: Baseline,
        progress: Progress = no_progress,
        statistics: PruningStatistics | None = None,
    ) -> list[Preview | CandidateError]:
        """A preview of each candidate, or why it can't be measured."""
        run = ScoringRun(self.engine, progress, statistics=statistics or self.statistics(baseline))
        known: list[dict[str, float]] = [{} for _ in edits]
        rough: list[dict[str, float]] = [{} for _ in edits]
        errors: dict[int, CandidateError] = {}
        for scorer in self.scorers:
            if scorer.previews == "fully":
                values: list[float] = [each.value for each in scorer.measure(run, edits, baseline)]
                _collect(known, scorer.name, values)
            elif scorer.previews == "roughly":
                values = scorer.preview(replace(run, progress=no_progress), edits)
                _collect(rough, scorer.name, values)
            else:
                continue
            errors |= {n: _not_finite(scorer, value) for n, value in enumerate(values) if not math.isfinite(value)}
        return [errors.get(n) or Preview(known[n], rough[n]) for n in range(len(edits))]


def _collect(into: Sequence[dict[str, float]], name: str, values: Sequence[float]) -> None:
    for each, value in zip(into, values, strict=True):
        each[name] = value


def _limit(scorer: Scorer, limit: Limit | None, measured: dict[str, Measurement] | CandidateError) -> float | None:
    if limit is None or not scorer.prunes or isinstance(measured, CandidateError):
        return None
    return limit(scorer.name, {name: each.value for name, each in measured.items()})


def _with(
    measured: dict[str, Measurement] | CandidateError, scorer: Scorer, measurement: Measurement
) -> dict[str, Measurement] | CandidateError:
    """The measurements with one more, or the reason why the candidate can't be used."""
    if isinstance(measured, CandidateError):
        return measured
    if not math.isfinite(measurement.value):
        return _not_finite(scorer, measurement.value)
    return measured | {scorer.name: measurement}


def _not_finite(scorer: Scorer, value: float) -> CandidateError:
    return CandidateError(f"the {scorer.title} is {value}")
