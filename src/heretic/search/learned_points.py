"""The candidates of a learned path, each learned when it is requested."""

import time
from collections.abc import Callable, Iterable, Sequence

from ..ablation.methods.learned.parameters import LearnedParameters
from ..engine.protocol import Progress
from ..evaluation.pruning.statistics import PruningStatistics
from ..session.learning import LearnedPaths
from ..study.schema import BaselineRecord, TrialRecord
from ..study.study import Study
from .time_budget import LearningTime

FEW = 0.05
"""Loss of a count, such as the share of the baseline's refusals, up to which a point's divergence decides."""

AfterStep = Callable[[int, int, int, float], None]
"""Called with the number of a point, its steps done, its total steps, and the estimated seconds left."""


class LearnedPoints:
    """Enqueues the next point of a study's paths; no more than `ahead` may be open, so that results come soon."""

    def __init__(self, study: Study, paths: LearnedPaths, ahead: int) -> None:
        self._study = study
        self._paths = paths
        self._seconds = 0.0
        self._steps = 0
        self.left = 0.0
        """Seconds of learning until the next candidate, of which `after_step` was just called."""
        self.after_step: AfterStep = lambda *_: None
        self.ahead = ahead

    def __len__(self) -> int:
        """Nothing is previewed."""
        return 0

    @property
    def waits(self) -> bool:
        """Whether the next candidate is the first one with scaled strengths: the metrics of all points choose whose."""
        return self._paths.begins_to_scale

    def refill(self, most: int, statistics: PruningStatistics, progress: Progress) -> int:
        """Learns a point if none is waiting; returns 0, the number of previews."""
        try:
            self._learn()
        except BaseException:
            # A search that goes on in this process, from the menu say, begins after the last point that was kept.
            self._paths.forget()
            raise
        return 0

    def _learn(self) -> None:
        while not self._study.n_waiting():
            started = time.monotonic()

            def after_step(point: int, step: int, steps: int, started: float = started) -> None:
                self._steps += 1
                a_step = (time.monotonic() - started) / step
                self.left = a_step * (self._paths.steps_of(1) - step)
                self.after_step(point, step, steps, a_step * (steps - step))

            point = self._paths.next_point(after_step, self._best)
            # After a kill between the journal's entry and the state's, the path learns a point that the journal holds.
            if not self._paths.on_the_way(point) and not self._study.holds(point):
                self._study.enqueue(point)
            self._paths.keep()
            self._seconds += time.monotonic() - started

    def _best(self, digests: Sequence[str]) -> str | None:
        """The point whose strengths are scaled, of those with these digests; None where none is complete."""
        trials = [each for each in self._study.trials if _digest_of_point(each) in digests]
        best = best_point(trials, self._study.record.baseline)
        return None if best is None else _digest_of_point(best)

    def time_for(self, candidates: int) -> LearningTime:
        """The time that learning took so far, and the steps that so many more candidates need."""
        return LearningTime(self._seconds, self._steps, self._paths.steps_of(candidates), self._paths.steps_of(1))


def best_point(trials: Iterable[TrialRecord], baseline: BaselineRecord) -> TrialRecord | None:
    """Of the trials whose counts have a loss of at most `FEW`, or the least that there is, the one with the least sum
    of other losses; None where none is fully measured."""
    complete = [each for each in trials if not each.pruned]

    def losses(trial: TrialRecord, counts: bool) -> list[float]:
        chosen = {name: each for name, each in baseline.metrics.items() if (each.of is not None) == counts}
        return [metric.loss(trial.value(name)) for name, metric in chosen.items()]

    worst = {trial.number: max(losses(trial, True), default=0.0) for trial in complete}
    limit = max(FEW, min(worst.values(), default=0.0))
    return min(
        (trial for trial in complete if worst[trial.number] <= limit),
        key=lambda trial: (sum(losses(trial, False)), trial.number),
        default=None,
    )


def _digest_of_point(trial: TrialRecord) -> str | None:
    """The digest of a learned point with its own strengths."""
    parameters = trial.parameters
    return parameters.tensors if isinstance(parameters, LearnedParameters) and parameters.scale == 1 else None
