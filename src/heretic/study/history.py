"""How a search went: seconds a trial, hypervolume by trial, which parameters mattered."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from .reader import RecordedStudy
from .schema import BaselineRecord, TrialRecord
from .study import FAILURE

REFERENCE_KL = 1.0
"""Nats; above it a model is damaged, and no trial is worth anything."""
LEAST_TRIALS = 20
"""PED-ANOVA compares the best tenth of the trials with all: of fewer, that is one trial."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A trial that could not be measured, and why."""

    number: int
    reason: str


def seconds_by_trial(study: RecordedStudy) -> dict[int, float]:
    """How long each complete trial took, from being asked for to being told."""
    return {
        trial.number: trial.duration.total_seconds()
        for trial in study.optuna.get_trials(deepcopy=False)
        if trial.duration is not None
    }


def failures(study: RecordedStudy) -> list[Failure]:
    return [
        Failure(trial.number, str(trial.user_attrs[FAILURE]))
        for trial in study.optuna.get_trials(deepcopy=False)
        if FAILURE in trial.user_attrs
    ]


def hypervolumes(trials: Sequence[TrialRecord], baseline: BaselineRecord) -> list[float]:
    """After each trial, the share of the plane (refusals to the baseline's, KL to 1 nat) that the front dominates.

    The hypervolume indicator of Zitzler and Thiele (1999) with the reference point (1, 1 nat): 0 is the model itself, 1
    would be no refusal at no KL. A bound dominates nothing. Where over-refusals are an objective, it is the share of a
    space: their axis ends where all harmless prompts are declined.
    """
    points: list[tuple[float, float, float]] = []
    volumes = []
    for trial in trials:
        if not trial.bound:
            declined = (trial.over_refusals or 0) / max(1, baseline.over_prompts or 0)
            points.append((trial.refusals / max(1, baseline.refusals), trial.kl_divergence / REFERENCE_KL, declined))
        volumes.append(dominated_volume(points))
    return volumes


def dominated_volume(points: Sequence[tuple[float, float, float]]) -> float:
    """The volume of the unit cube that is no better than some point in all coordinates (smaller is better).

    Between two neighbouring values of the third coordinate, the points below span the same area of the other two.
    """
    levels = sorted({max(0.0, z) for *_, z in points if z < 1})
    return sum(
        (above - level) * dominated_area([(x, y) for x, y, z in points if z <= level])
        for level, above in zip(levels, [*levels[1:], 1.0], strict=True)
    )


def dominated_area(points: Sequence[tuple[float, float]]) -> float:
    """The area of the unit square that is no better than some point in both coordinates (smaller is better)."""
    area, ceiling = 0.0, 1.0
    for x, y in sorted((max(0.0, x), max(0.0, y)) for x, y in points):
        if x < 1 and y < ceiling:
            area += (1 - x) * (ceiling - y)
            ceiling = y
    return area


def importance(study: RecordedStudy) -> dict[str, dict[str, float]] | None:
    """By figure (refusals, KL, over-refusals where they are an objective), each parameter's share of what decides
    whether a trial is among the best tenth.

    PED-ANOVA (Watanabe et al. 2023, arXiv 2304.10255). None of fewer than 20 trials.
    """
    from optuna.importance import get_param_importances

    if len(study.trials) < LEAST_TRIALS:
        return None
    figures = ["refusals", "kl_divergence", *(["over_refusals"] if study.baseline.objectives == 3 else [])]
    with warnings.catch_warnings():
        # It says that it takes low values for good ones, as they are here.
        warnings.filterwarnings("ignore", message="PedAnova")
        return {
            name: {
                key: float(value)
                for key, value in get_param_importances(study.optuna, target=partial(_figure, name)).items()
            }
            for name in figures
        }


def _figure(name: str, trial: Any) -> float:
    return float(trial.user_attrs["trial"][name])
