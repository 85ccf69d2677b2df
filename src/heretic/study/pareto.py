"""The Pareto front of a study's trials, by any number of metrics, and the choice on it."""

from collections.abc import Iterable, Mapping, Sequence

from ..errors import StudyError
from .schema import BaselineRecord, TrialRecord


def pareto_front(trials: Iterable[TrialRecord], baseline: BaselineRecord) -> list[TrialRecord]:
    """Trials that no other one dominates, best first by counts, then by the other metrics; of equal ones the earliest.

    Pruned trials are left out: a fully evaluated one dominates each of them.
    """
    measured = ((_costs(trial, baseline), trial) for trial in trials if not trial.pruned)
    front: list[tuple[tuple[float, ...], TrialRecord]] = []
    for costs, trial in sorted(measured, key=lambda each: (each[0], each[1].number)):
        # In lexicographic order no trial is dominated by a later one.
        if not any(_no_worse(other, costs) for other, _ in front):
            front.append((costs, trial))
    return [trial for _, trial in front]


def pruning_limit(
    front: Iterable[TrialRecord], baseline: BaselineRecord, name: str, known: Mapping[str, float]
) -> float | None:
    """The value of the metric `name` at which a candidate is dominated, if all its other metrics are `known`.

    Some trial of `front` has that value and is no worse in the others; a higher value only makes it worse. None if the
    candidate enters the front whatever the value is.
    """
    others = {each: metric for each, metric in baseline.metrics.items() if each != name}
    dominating = [
        trial.value(name)
        for trial in front
        if not trial.pruned
        and all(metric.cost(trial.value(each)) <= metric.cost(known[each]) for each, metric in others.items())
    ]
    return min(dominating, default=None)


def knee(front: Sequence[TrialRecord], baseline: BaselineRecord) -> TrialRecord:
    """The trial of the front with the least sum of losses; of equal ones the earliest.

    One percent of the baseline's refusals is worth 0.01 nats: at a KL divergence below 0.3 (excellent by the field's
    rule of thumb) refusals decide, beyond it the damage does.
    """

    def cost(trial: TrialRecord) -> float:
        return sum(metric.loss(trial.value(name)) for name, metric in baseline.metrics.items())

    return min(front, key=lambda trial: (cost(trial), trial.number))


def select(front: Sequence[TrialRecord], baseline: BaselineRecord, wanted: str | int) -> TrialRecord:
    """The trial that `wanted` names: "knee", the best by one metric ("lowest-kl"), or a trial number on the front.

    Raises:
        StudyError: the front is empty, or has no such trial.
    """
    if not front:
        raise StudyError("Expected at least one complete trial to choose from, found none: run more trials first.")
    if wanted == "knee":
        return knee(front, baseline)
    for name, metric in baseline.metrics.items():
        if wanted == metric.rule:
            return min(front, key=lambda trial, name=name, metric=metric: metric.cost(trial.value(name)))  # type: ignore[misc]
    for trial in front:
        if trial.number == wanted:
            return trial
    numbers = ", ".join(str(trial.number) for trial in front)
    raise StudyError(
        f"Trial {wanted} is not on the Pareto front. Trials on it: {numbers}. Choose one of these, or "
        f"{', '.join(rules(baseline)[:-1])} or {rules(baseline)[-1]}."
    )


def rules(baseline: BaselineRecord) -> list[str]:
    """The names by which a trial of the front can be chosen, in addition to its number."""
    return ["knee", *sorted(metric.rule for metric in baseline.metrics.values())]


def _costs(trial: TrialRecord, baseline: BaselineRecord) -> tuple[float, ...]:
    """The trial's metrics, less being better; counts first, since many trials share one."""
    ordered = sorted(baseline.metrics.items(), key=lambda each: each[1].of is None)
    return tuple(metric.cost(trial.value(name)) for name, metric in ordered)


def _no_worse(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True))
