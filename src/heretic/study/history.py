"""The history of a search: seconds a trial, hypervolume by trial, importance of parameters."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from .metrics import BaselineMetric
from .reader import RecordedStudy
from .schema import BaselineRecord, TrialRecord
from .study import FAILURE

LEAST_TRIALS = 20
"""PED-ANOVA compares the best tenth of the trials with all: with fewer trials, that tenth is a single one."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A trial that could not be measured, and the reason."""

    number: int
    reason: str


def seconds_by_trial(study: RecordedStudy) -> dict[int, float]:
    """The duration of each complete trial, from its request to its result."""
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
    """After each trial, the share of the unit cube of losses, one axis a metric, that the front dominates.

    The hypervolume indicator of Zitzler and Thiele (1999) with the reference point 1 in every metric's loss: the
    baseline's refusals, 1 nat, all harmless prompts declined. 0 is the baseline, 1 would be no refusal at no KL
    divergence. A pruned trial dominates nothing.
    """
    points: list[tuple[float, ...]] = []
    volumes = []
    for trial in trials:
        if not trial.pruned:
            points.append(tuple(metric.loss(trial.value(name)) for name, metric in baseline.metrics.items()))
        volumes.append(dominated_volume(points))
    return volumes


def dominated_volume(points: Sequence[tuple[float, ...]]) -> float:
    """The volume of the unit cube that is no better than some point in all coordinates (smaller is better).

    Between two neighbouring values of the last coordinate, the points below span the same volume of the others.
    """
    if not points:
        return 0.0
    if len(points[0]) == 1:
        return 1 - min(1.0, max(0.0, min(x for (x,) in points)))
    if len(points[0]) == 2:
        return dominated_area([(x, y) for x, y in points])
    levels = sorted({max(0.0, point[-1]) for point in points if point[-1] < 1})
    return sum(
        (above - level) * dominated_volume([point[:-1] for point in points if point[-1] <= level])
        for level, above in zip(levels, [*levels, 1.0][1:], strict=True)
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
    """By metric, each parameter's share of what decides whether a trial is among the best tenth.

    PED-ANOVA (Watanabe et al. 2023, arXiv 2304.10255). None for fewer than 20 trials, and for those that no
    sampler drew.
    """
    from optuna.importance import get_param_importances

    drawn = any(trial.params for trial in study.optuna.get_trials(deepcopy=False))
    if len(study.trials) < LEAST_TRIALS or not drawn:
        return None
    with warnings.catch_warnings():
        # The evaluator warns that it takes low values for good ones; these are costs, so it is right.
        warnings.filterwarnings("ignore", message="PedAnova")
        return {
            name: {
                key: float(value)
                for key, value in get_param_importances(study.optuna, target=partial(_cost, name, metric)).items()
            }
            for name, metric in study.baseline.metrics.items()
        }


def _cost(name: str, metric: BaselineMetric, trial: Any) -> float:
    return float(metric.cost(TrialRecord.model_validate(trial.user_attrs["trial"]).value(name)))
