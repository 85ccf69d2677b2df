"""The candidates of the random start-up: drawn, looked at, and measured most promising first.

They hang on no trial's figures, so their order is free; and the earlier the good ones are measured, the earlier the
others show that they can't enter the front.
"""

from collections.abc import Sequence
from copy import deepcopy

from ..ablation.parameters import AblationParameters
from ..engine.protocol import Progress
from ..evaluation.pruning.preview import Preview, most_promising_first
from ..evaluation.pruning.statistics import PruningStatistics
from ..study.study import Study
from .measurer import EvaluationRequest, Measurer

FIRST_LOOK, FIRST_TRIALS = 20, 2
"""So that the first figures come soon, few candidates are looked at before some of them are measured. The rest follow,
in one order with those that are left: the more are put in order together, the fewer are measured in vain."""

MOST_TOGETHER = 64
"""Where a search has more of them (by the random sampler, all), figures come between."""


class StartupQueue:
    """Enqueues candidates that the sampler would draw blindly, and `first` before them.

    Without `looking` they are measured as they come. `learned` is what the trials so far teach.
    """

    def __init__(
        self,
        study: Study,
        measurer: Measurer,
        looking: bool,
        learned: PruningStatistics,
        first: Sequence[AblationParameters] = (),
    ) -> None:
        self._study = study
        self._measurer = measurer
        self._looking = looking
        self._learned = learned
        self._first = list(first)
        self._looked: list[tuple[AblationParameters, Preview | None]] = []
        self._begun = False

    def __len__(self) -> int:
        """Candidates that were looked at and are not enqueued yet."""
        return len(self._looked)

    @property
    def wants_preview(self) -> bool:
        """Whether the next candidates are still to be looked at: best when all that were asked for have been told,
        since they tell which prompts to look at."""
        held = len(self)
        return self._looking and not self._study.n_waiting() and self._study.unguided(held + 1) > held

    def refill(self, most: int, progress: Progress) -> int:
        """Enqueues candidates where none is left and the sampler has not begun to learn; `most` will be measured.

        Where `looks_next`, no other job may be open.

        Returns how many were looked at.
        """
        if self._study.n_waiting():
            return 0
        fitting = min(most, MOST_TOGETHER if self._begun else FIRST_LOOK)
        given, self._first = self._first, []
        count = self._study.unguided(fitting) - len(given) - len(self)
        candidates = given + (self._study.draw(count) if count > 0 else [])
        looking = self._looking and len(candidates) + len(self) > 1
        if looking:
            self._looked += zip(candidates, self._look(candidates, progress), strict=True)
            self._looked = _in_order(self._looked)
        else:
            self._looked += [(parameters, None) for parameters in candidates]
        ready = len(self) if self._begun or not self._looking else FIRST_TRIALS
        self._begun = True
        for parameters, look in self._looked[:ready]:
            self._study.enqueue(parameters, {"kl_divergence": look.kl_divergence} if look else None)
        del self._looked[:ready]
        return len(candidates) if looking else 0

    def _look(self, candidates: Sequence[AblationParameters], progress: Progress) -> list[Preview | None]:
        """None of those that have no finite figures: each fails in its turn, with the reason."""
        for number, parameters in enumerate(candidates):
            self._measurer.submit(EvaluationRequest(number, parameters, learned=deepcopy(self._learned), looking=True))
        found: dict[int, Preview | None] = {}
        while len(found) < len(candidates):
            for job, outcome in self._measurer.outcomes(progress):
                found[job.number] = outcome if isinstance(outcome, Preview) else None
        return [found[number] for number in range(len(candidates))]


def _in_order(
    looked: Sequence[tuple[AblationParameters, Preview | None]],
) -> list[tuple[AblationParameters, Preview | None]]:
    """The most promising first, those without a look last."""
    known = [(parameters, look) for parameters, look in looked if look is not None]
    order = most_promising_first([look for _, look in known])
    return [known[place] for place in order] + [each for each in looked if each[1] is None]
