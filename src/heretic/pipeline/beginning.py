"""What a new study tries before its sampler has learnt anything."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..ablation.parameters import AblationParameters
from ..config import Settings
from ..study.pareto import pareto_front
from ..study.space import SearchSpace
from .results import find_study


@dataclass(frozen=True, slots=True)
class Prescribed:
    """A study of these candidates and no others, in this order; `measured` are the places of those that are measured
    at the end, on the front or not."""

    candidates: Sequence[AblationParameters]
    measured: Sequence[int]


def first_candidates(space: SearchSpace, settings: Settings) -> list[AblationParameters]:
    """The front of the study that `settings.seeds` names, then the textbook settings; as many as there are trials.

    Raises:
        StudyError: there is no such study, or its model has other components.
    """
    candidates: list[AblationParameters] = []
    if settings.seeds is not None:
        study = find_study(settings.seeds, settings.study_checkpoint_dir)
        last_layer = int(study.record.space["last_layer"])
        candidates += [space.adopt(trial.parameters, last_layer) for trial in pareto_front(study.trials)]
    if settings.textbook_trials:
        candidates += space.textbook()
    return candidates[: settings.n_trials]
