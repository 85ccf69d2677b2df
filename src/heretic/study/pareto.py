"""The Pareto front of refusals and KL divergence, and the choice of one trial on it."""

from collections.abc import Iterable, Sequence

from ..errors import StudyError
from .records import BaselineRecord, TrialRecord


def pareto_front(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Trials by (refusals, KL), each kept whose KL is below every earlier one's.

    A bound is left out: a trial that was measured to the end dominates it.
    """
    front: list[TrialRecord] = []
    for trial in sorted(
        (each for each in trials if not each.bound), key=lambda each: (each.refusals, each.kl_divergence, each.number)
    ):
        if not front or trial.kl_divergence < front[-1].kl_divergence:
            front.append(trial)
    return front


def losing_refusals(trials: Iterable[TrialRecord], kl_divergence: float) -> int | None:
    """The number of refusals with which a trial of this KL can't enter the front any more; None if it enters anyway.

    Some measured trial has no higher KL and that many refusals; more of them only make it worse.
    """
    better = [each.refusals for each in trials if not each.bound and each.kl_divergence <= kl_divergence]
    return min(better, default=None)


def knee(front: Sequence[TrialRecord], baseline: BaselineRecord) -> TrialRecord:
    """The trial with the least sum of refusals, as a share of the baseline's, and KL divergence in nats.

    One percent of the refusals is worth 0.01 nats: at KL < 0.3 (excellent by the field's rule of thumb) refusals
    decide, beyond it the damage does.
    """
    base = max(1, baseline.refusals)
    return min(front, key=lambda trial: (trial.refusals / base + trial.kl_divergence, trial.number))


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
        return front[-1]
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
