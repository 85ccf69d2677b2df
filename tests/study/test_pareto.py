"""The front holds what no other trial beats; each rule chooses from it."""

import itertools
import random

import pytest

from heretic.errors import StudyError
from heretic.study.pareto import knee, pareto_front, select
from heretic.study.schema import BaselineRecord, TrialRecord
from tests.support.study_toys import BASELINE, trial

FRONT = [trial(3, 0, 0.9), trial(8, 4, 0.3), trial(1, 30, 0.05)]


def random_trials(seed: int, count: int = 60, levels: int = 8) -> list[TrialRecord]:
    """Few levels: ties and duplicates abound."""
    rng = random.Random(seed)
    return [trial(number, rng.randrange(levels), rng.randrange(levels) / 10) for number in range(count)]


def beats(one: TrialRecord, other: TrialRecord) -> bool:
    """One is nowhere worse, and better somewhere; of equals the earlier one stands for both."""
    if one.refusals > other.refusals or one.kl_divergence > other.kl_divergence:
        return False
    return (one.refusals, one.kl_divergence) != (other.refusals, other.kl_divergence) or one.number < other.number


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("levels", [3, 8, 1000])
def test_the_front_is_what_no_other_trial_beats(seed: int, levels: int) -> None:
    trials = random_trials(seed, levels=levels)
    naive = [each for each in trials if not any(beats(other, each) for other in trials)]
    front = pareto_front(trials)
    assert len(front) < len(trials)
    assert front == sorted(naive, key=lambda each: each.refusals)


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_trials_does_not_matter(seed: int) -> None:
    trials = random_trials(seed)
    shuffled = random.Random(seed).sample(trials, len(trials))
    assert shuffled != trials
    assert pareto_front(shuffled) == pareto_front(trials)


def test_along_the_front_refusals_rise_and_kl_falls() -> None:
    front = pareto_front(random_trials(0, levels=1000))
    assert len(front) > 3
    for before, after in itertools.pairwise(front):
        assert before.refusals < after.refusals
        assert before.kl_divergence > after.kl_divergence


def test_of_equal_trials_the_earlier_one_is_kept() -> None:
    assert pareto_front([trial(5, 2, 0.1), trial(2, 2, 0.1), trial(9, 2, 0.1)]) == [trial(2, 2, 0.1)]


def test_a_tie_in_one_figure_is_decided_by_the_other() -> None:
    assert pareto_front([trial(0, 2, 0.3), trial(1, 2, 0.1)]) == [trial(1, 2, 0.1)]
    assert pareto_front([trial(0, 4, 0.1), trial(1, 2, 0.1)]) == [trial(1, 2, 0.1)]


def test_no_trials_have_no_front() -> None:
    assert pareto_front([]) == []


def test_the_knee_has_the_least_sum_of_refusals_share_and_kl() -> None:
    # 0 + 0.9, 4 / 80 + 0.3 = 0.35, 30 / 80 + 0.05 = 0.425
    assert knee(FRONT, BASELINE).number == 8
    # Against 1000 refusals of the model itself, 30 are few: 0.9, 0.304, 0.08.
    assert knee(FRONT, BaselineRecord(refusals=1000, prompts=1000)).number == 1


def test_of_equal_knees_the_earlier_trial_is_taken() -> None:
    equal = [trial(7, 0, 0.25), trial(4, 20, 0.0)]  # 20 / 80 = 0.25
    assert knee(equal, BASELINE).number == 4
    assert knee(equal[::-1], BASELINE).number == 4


def test_the_knee_needs_no_refusing_baseline() -> None:
    assert knee(FRONT, BaselineRecord(refusals=0, prompts=100)).number == 3


@pytest.mark.parametrize(
    ("wanted", "number"), [("knee", 8), ("lowest-kl", 1), ("lowest-refusals", 3), (1, 1), (3, 3), (8, 8)]
)
def test_each_rule_names_its_trial(wanted: str | int, number: int) -> None:
    assert select(FRONT, BASELINE, wanted).number == number


@pytest.mark.parametrize("wanted", [2, 0, "best"])
def test_a_trial_off_the_front_is_an_error_that_names_those_on_it(wanted: str | int) -> None:
    with pytest.raises(StudyError, match=f"Trial {wanted} is not on the Pareto front. Trials on it: 3, 8, 1"):
        select(FRONT, BASELINE, wanted)


@pytest.mark.parametrize("wanted", ["knee", "lowest-kl", "lowest-refusals", 3])
def test_there_is_nothing_to_choose_on_an_empty_front(wanted: str | int) -> None:
    with pytest.raises(StudyError, match="at least one complete trial"):
        select([], BASELINE, wanted)


def threefold(seed: int, levels: int = 5) -> list[TrialRecord]:
    rng = random.Random(seed)
    return [
        each.model_copy(update={"over_refusals": rng.randrange(levels)}) for each in random_trials(seed, 60, levels)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_a_front_of_three_figures_is_what_no_other_trial_beats(seed: int) -> None:
    def figures(each: TrialRecord) -> tuple[float, ...]:
        return each.refusals, each.over_refusals or 0, each.kl_divergence

    def beaten(each: TrialRecord, other: TrialRecord) -> bool:
        ours, theirs = figures(each), figures(other)
        no_worse = all(a <= b for a, b in zip(theirs, ours, strict=True))
        return no_worse and (theirs != ours or other.number < each.number)

    trials = threefold(seed)
    naive = [each for each in trials if not any(beaten(each, other) for other in trials)]
    front = pareto_front(trials)
    assert len(naive) < len(trials)
    assert front == sorted(naive, key=figures)
    assert select(front, BASELINE, "lowest-kl").kl_divergence == min(each.kl_divergence for each in trials)


def test_over_refusals_count_at_the_knee() -> None:
    third = BASELINE.model_copy(update={"over_refusals": 2, "over_prompts": 10})
    meek, bold = (trial(n, 10 + n, 0.1).model_copy(update={"over_refusals": 5 * (1 - n)}) for n in (0, 1))
    assert knee([meek, bold], third).number == 1
    assert knee([trial(0, 10, 0.1), trial(1, 11, 0.1)], BASELINE).number == 0
