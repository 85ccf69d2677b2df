"""The Pareto front of refusals, KL divergence and, where they are an objective, over-refusals; and the choice on it."""

from collections.abc import Iterable, Sequence

from ..errors import StudyError
from .schema import BaselineRecord, TrialRecord


def pareto_front(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Trials by (refusals, over-refusals, KL), each kept whose KL is below that of every earlier one with no more
    over-refusals.

    A bound is left out: a trial that was measured to the end dominates it.
    """
    front: list[TrialRecord] = []
    measured = (each for each in trials if not each.bound)
    for trial in sorted(measured, key=lambda each: (each.refusals, _over(each), each.kl_divergence, each.number)):
        # None of them has more refusals than this one.
        if all(_over(each) > _over(trial) or each.kl_divergence > trial.kl_divergence for each in front):
            front.append(trial)
    return front


def losing_refusals(
    trials: Iterable[TrialRecord], kl_divergence: float, over_refusals: int | None = None
) -> int | None:
    """The number of refusals with which a trial of this KL (and so many over-refusals, where they are an objective)
    can't enter the front any more; None if it enters anyway.

    Some measured trial has no higher KL, no more over-refusals and that many refusals; more only make it worse.
    """
    better = [
        each.refusals
        for each in trials
        if not each.bound and each.kl_divergence <= kl_divergence and _over(each) <= (over_refusals or 0)
    ]
    return min(better, default=None)


def _over(trial: TrialRecord) -> int:
    """Over-refusals; where they are no objective, all trials are alike in them."""
    return trial.over_refusals or 0


def knee(front: Sequence[TrialRecord], baseline: BaselineRecord) -> TrialRecord:
    """The trial with the least sum of refusals, as a share of the baseline's, and KL divergence in nats; and of
    over-refusals, as a share of their prompts, where these are an objective.

    One percent of the refusals is worth 0.01 nats: at KL < 0.3 (excellent by the field's rule of thumb) refusals
    decide, beyond it the damage does.
    """
    base, harmless = max(1, baseline.refusals), max(1, baseline.over_prompts or 0)

    def cost(trial: TrialRecord) -> float:
        return trial.refusals / base + trial.kl_divergence + _over(trial) / harmless

    return min(front, key=lambda trial: (cost(trial), trial.number))


def select(front: Sequence[TrialRecord], baseline: BaselineRecord, wanted: str | int) -> TrialRecord:
    """The trial that `wanted` names: "knee", "lowest-kl", "lowest-refusals", or a trial number on the front.

    Raises:
        StudyError: the front is empty, or has no such trial.
    """
    if not front:
        raise StudyError("Expected at least one complete trial to choose from, found none: run more trials first.")
    if wanted == "knee":
        return knee(front, baseline)
    if wanted == "lowest-kl":
        return min(front, key=lambda trial: trial.kl_divergence)
    if wanted == "lowest-refusals":
        return front[0]
    for trial in front:
        if trial.number == wanted:
            return trial
    numbers = ", ".join(str(trial.number) for trial in front)
    raise StudyError(
        f"Trial {wanted} is not on the Pareto front. Trials on it: {numbers}. Choose one of these, or "
        "knee, lowest-kl or lowest-refusals."
    )
