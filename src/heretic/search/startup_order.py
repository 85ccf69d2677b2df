"""The candidates of the random start-up: drawn, previewed, and evaluated most promising first.

They depend on no trial's metrics, so their order is free. The earlier good candidates are evaluated, the earlier others
can be pruned.
"""

from collections.abc import Sequence

from ..ablation.parameters import AblationParameters
from ..engine.protocol import Progress
from ..evaluation.pruning.preview import Preview, most_promising_first
from ..evaluation.pruning.statistics import PruningStatistics
from ..study.study import Study
from .measurer import EvaluationRequest, Measurer
from .time_budget import LearningTime

FIRST_PREVIEWS, FIRST_TRIALS = 20, 2
"""Few candidates are previewed before the first trials, so that these come soon. The rest are ordered together with
those that are left: the larger the group, the fewer candidates are evaluated that could have been pruned."""

MOST_TOGETHER = 64
"""Candidates that are previewed together at most; a random search, whose candidates all are start-up, has more."""


class StartupQueue:
    """Enqueues the candidates that the sampler would draw at random, and `first` before them.

    Without `ordering` they are evaluated in the order in which they were drawn.
    """

    def __init__(
        self, study: Study, measurer: Measurer, ordering: bool, first: Sequence[AblationParameters] = ()
    ) -> None:
        self._study = study
        self._measurer = measurer
        self._ordering = ordering
        self._first = list(first)
        self._previewed: list[tuple[AblationParameters, Preview | None]] = []
        self._begun = False

    def time_for(self, candidates: int) -> LearningTime:
        """Nothing is learned before a trial."""
        return LearningTime()

    def __len__(self) -> int:
        """Candidates that were previewed and are not enqueued yet."""
        return len(self._previewed)

    @property
    def waits(self) -> bool:
        """Whether the next candidates have to be previewed. All requested trials should be reported before: they choose
        the prompts of a preview."""
        held = len(self)
        return self._ordering and not self._study.n_waiting() and self._study.unguided(held + 1) > held

    def refill(self, most: int, statistics: PruningStatistics, progress: Progress) -> int:
        """Enqueues candidates if none is waiting and the sampler is not learning yet; `most` more will be evaluated.

        If `waits`, no other request may be open. Returns the number of previews.
        """
        if self._study.n_waiting():
            return 0
        fitting = min(most, MOST_TOGETHER if self._begun else FIRST_PREVIEWS)
        given, self._first = self._first, []
        count = self._study.unguided(fitting) - len(given) - len(self)
        candidates = given + (self._study.draw(count) if count > 0 else [])
        previewing = self._ordering and len(candidates) + len(self) > 1
        if previewing:
            self._previewed += zip(candidates, self._preview(candidates, statistics, progress), strict=True)
            self._previewed = _in_order(self._previewed)
        else:
            self._previewed += [(parameters, None) for parameters in candidates]
        ready = len(self) if self._begun or not self._ordering else FIRST_TRIALS
        self._begun = True
        for parameters, preview in self._previewed[:ready]:
            self._study.enqueue(parameters, preview.known if preview else None)
        del self._previewed[:ready]
        return len(candidates) if previewing else 0

    def _preview(
        self, candidates: Sequence[AblationParameters], statistics: PruningStatistics, progress: Progress
    ) -> list[Preview | None]:
        """The previews; None for a candidate without finite metrics, which fails as a trial, with the reason."""
        for number, parameters in enumerate(candidates):
            self._measurer.submit(EvaluationRequest(number, parameters, statistics=statistics, preview=True))
        found: dict[int, Preview | None] = {}
        while len(found) < len(candidates):
            for request, outcome in self._measurer.outcomes(progress):
                found[request.number] = outcome if isinstance(outcome, Preview) else None
        return [found[number] for number in range(len(candidates))]


def _in_order(
    previewed: Sequence[tuple[AblationParameters, Preview | None]],
) -> list[tuple[AblationParameters, Preview | None]]:
    """The most promising first, those without a preview last."""
    known = [(parameters, preview) for parameters, preview in previewed if preview is not None]
    order = most_promising_first([preview for _, preview in known])
    return [known[place] for place in order] + [each for each in previewed if each[1] is None]
