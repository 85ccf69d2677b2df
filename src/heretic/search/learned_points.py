"""The candidates of a learned path, each learned when it is requested."""

import time
from collections.abc import Callable

from ..engine.protocol import Progress
from ..evaluation.pruning.statistics import PruningStatistics
from ..session.learning import LearnedPaths
from ..study.study import Study
from .time_budget import LearningTime

AfterStep = Callable[[int, int, int, float], None]
"""Called with the number of a point, its steps done, its total steps, and the estimated seconds left."""


class LearnedPoints:
    """Enqueues the next point of a study's paths; no more than `ahead` may be open, so that results come soon."""

    wants_preview = False

    def __init__(self, study: Study, paths: LearnedPaths, ahead: int) -> None:
        self._study = study
        self._paths = paths
        self._seconds = 0.0
        self._steps = 0
        self.after_step: AfterStep = lambda *_: None
        self.ahead = ahead

    def __len__(self) -> int:
        """Nothing is previewed."""
        return 0

    def refill(self, most: int, statistics: PruningStatistics, progress: Progress) -> int:
        """Learns a point if none is waiting; returns 0, the number of previews."""
        while not self._study.n_waiting():
            started = time.monotonic()

            def after_step(point: int, step: int, steps: int, started: float = started) -> None:
                self._steps += 1
                self.after_step(point, step, steps, (time.monotonic() - started) / step * (steps - step))

            point = self._paths.next_point(after_step)
            # After a kill between the journal's entry and the state's, the path learns a point that the journal holds.
            if not self._paths.on_the_way(point) and not self._study.holds(point):
                self._study.enqueue(point)
            self._paths.keep()
            self._seconds += time.monotonic() - started
        return 0

    def time_for(self, candidates: int) -> LearningTime:
        """The time that learning took so far, and the steps that so many more candidates need."""
        return LearningTime(self._seconds, self._steps, self._paths.steps_of(candidates), self._paths.steps_of(1))
