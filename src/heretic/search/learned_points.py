"""The candidates of a learned path: each is learned when its turn comes."""

from ..engine.protocol import Progress
from ..evaluation.pruning.statistics import PruningStatistics
from ..session.learning import LearnedPaths
from ..study.study import Study


class LearnedPoints:
    """Enqueues the next point of a study's paths; no more than `ahead` may be open, so that results come soon."""

    wants_preview = False

    def __init__(self, study: Study, paths: LearnedPaths, ahead: int) -> None:
        self._study = study
        self._paths = paths
        self.ahead = ahead

    def __len__(self) -> int:
        """Nothing is previewed."""
        return 0

    def refill(self, most: int, statistics: PruningStatistics, progress: Progress) -> int:
        """Learns a point if none is waiting; returns 0, the number of previews."""
        while not self._study.n_waiting():
            point = self._paths.next_point()
            # A kill before the state was kept has the path learn a point again that the journal holds.
            if not self._study.holds(point):
                self._study.enqueue(point)
            self._paths.keep()
        return 0
