"""The front holds the trials that no other dominates; each rule chooses from it."""

import itertools
import random
from collections.abc import Iterable
from functools import partial

import pytest

from heretic.errors import StudyError
from heretic.study.metrics import BaselineMetric, Metric
from heretic.study.pareto import knee, pareto_front, pruning_limit, select
from heretic.study.schema import BaselineRecord, TrialRecord
from tests.support.study_toys import BASELINE, baseline, trial

THIRD = baseline(over=(2, 10))
FRONT = [trial(3, 0, 0.9), trial(8, 4, 0.3), trial(1, 30, 0.05)]


def front_of(trials: Iterable[TrialRecord], against: BaselineRecord = BASELINE) -> list[TrialRecord]:
    return pareto_front(trials, against)


def random_trials(seed: int, count: int = 60, levels: int = 8) -> list[TrialRecord]:
    """Few levels: ties and duplicates abound."""
    rng = random.Random(seed)
    return [trial(number, rng.randrange(levels), rng.randrange(levels) / 10) for number in range(count)]


def beats(one: TrialRecord, other: TrialRecord) -> bool:
    """No worse in any metric and better in one; of equal trials only the earlier one is on the front."""
    if one.value("refusals") > other.value("refusals") or one.value("kl_divergence") > other.value("kl_divergence"):
        return False
    return (one.value("refusals"), one.value("kl_divergence")) != (
        other.value("refusals"),
        other.value("kl_divergence"),
    ) or one.number < other.number


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("levels", [3, 8, 1000])
def test_the_front_is_what_no_other_trial_beats(seed: int, levels: int) -> None:
    trials = random_trials(seed, levels=levels)
    naive = [each for each in trials if not any(beats(other, each) for other in trials)]
    front = front_of(trials)
    assert len(front) < len(trials)
    assert front == sorted(naive, key=lambda each: each.value("refusals"))


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_trials_does_not_matter(seed: int) -> None:
    trials = random_trials(seed)
    shuffled = random.Random(seed).sample(trials, len(trials))
    assert shuffled != trials
    assert front_of(shuffled) == front_of(trials)


def test_along_the_front_refusals_rise_and_kl_falls() -> None:
    front = front_of(random_trials(0, levels=1000))
    assert len(front) > 3
    for before, after in itertools.pairwise(front):
        assert before.value("refusals") < after.value("refusals")
        assert before.value("kl_divergence") > after.value("kl_divergence")


def test_of_equal_trials_the_earlier_one_is_kept() -> None:
    assert front_of([trial(5, 2, 0.1), trial(2, 2, 0.1), trial(9, 2, 0.1)]) == [trial(2, 2, 0.1)]


def test_a_tie_in_one_figure_is_decided_by_the_other() -> None:
    assert front_of([trial(0, 2, 0.3), trial(1, 2, 0.1)]) == [trial(1, 2, 0.1)]
    assert front_of([trial(0, 4, 0.1), trial(1, 2, 0.1)]) == [trial(1, 2, 0.1)]


def test_no_trials_have_no_front() -> None:
    assert front_of([]) == []


def test_the_knee_has_the_least_sum_of_refusals_share_and_kl() -> None:
    # 0 + 0.9, 4 / 80 + 0.3 = 0.35, 30 / 80 + 0.05 = 0.425
    assert knee(FRONT, BASELINE).number == 8
    # Against 1000 refusals of the baseline, 30 are few: 0.9, 0.304, 0.08.
    assert knee(FRONT, baseline(refusals=1000, prompts=1000)).number == 1


def test_of_equal_knees_the_earlier_trial_is_taken() -> None:
    equal = [trial(7, 0, 0.25), trial(4, 20, 0.0)]  # 20 / 80 = 0.25
    assert knee(equal, BASELINE).number == 4
    assert knee(equal[::-1], BASELINE).number == 4


def test_the_knee_needs_no_refusing_baseline() -> None:
    assert knee(FRONT, baseline(refusals=0, prompts=100)).number == 3


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
        trial(each.number, int(each.value("refusals")), each.value("kl_divergence"), over=rng.randrange(levels))
        for each in random_trials(seed, 60, levels)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_a_front_of_three_metrics_is_what_no_other_trial_beats(seed: int) -> None:
    def values(each: TrialRecord) -> tuple[float, ...]:
        return each.value("refusals"), each.value("over_refusals"), each.value("kl_divergence")

    def beaten(each: TrialRecord, other: TrialRecord) -> bool:
        ours, theirs = values(each), values(other)
        no_worse = all(a <= b for a, b in zip(theirs, ours, strict=True))
        return no_worse and (theirs != ours or other.number < each.number)

    trials = threefold(seed)
    naive = [each for each in trials if not any(beaten(each, other) for other in trials)]
    front = front_of(trials, THIRD)
    assert len(naive) < len(trials)
    assert front == sorted(naive, key=values)
    assert select(front, THIRD, "lowest-kl").value("kl_divergence") == min(
        each.value("kl_divergence") for each in trials
    )


def test_over_refusals_count_at_the_knee() -> None:
    meek, bold = (trial(n, 10 + n, 0.1, over=5 * (1 - n)) for n in (0, 1))
    assert knee([meek, bold], THIRD).number == 1
    assert knee([trial(0, 10, 0.1), trial(1, 11, 0.1)], BASELINE).number == 0


def quality(value: float, scale: float = 1.0) -> BaselineRecord:
    """A baseline of three metrics, of which the last is better the higher it is."""
    best = BaselineMetric(label="quality", title="quality", value=value, scale=scale, direction="maximize")
    return BaselineRecord(metrics={**BASELINE.metrics, "quality": best})


def rated(number: int, refusals: int, kl_divergence: float, value: float) -> TrialRecord:
    metrics = {**trial(number, refusals, kl_divergence).metrics, "quality": Metric(value=value)}
    return trial(number, refusals, kl_divergence).model_copy(update={"metrics": metrics})


def test_a_metric_to_maximise_counts_the_other_way() -> None:
    low, high, lower = rated(0, 4, 0.1, 0.3), rated(1, 4, 0.1, 0.8), rated(2, 9, 0.2, 0.9)
    assert front_of([low, high, lower], quality(1.0)) == [high, lower], "the first is like the second, and worse"
    assert select([high, lower], quality(1.0), "highest-quality") == lower
    assert knee([low, high], quality(1.0)) == high


def test_the_limit_of_pruning_is_the_fewest_refusals_of_a_trial_that_is_no_worse_otherwise() -> None:
    best, pruned = trial(0, 5, 0.1), trial(1, 0, 0.01, pruned=True)
    limit = partial(pruning_limit, [best, trial(2, 9, 0.05), pruned], BASELINE, "refusals")
    assert limit({"kl_divergence": 0.2}) == 5
    assert limit({"kl_divergence": 0.1}) == 5, "an equal trial does not join an earlier one on the front"
    assert limit({"kl_divergence": 0.09}) == 9
    assert limit({"kl_divergence": 0.04}) is None, "a lower bound rules nothing out"
    third = partial(pruning_limit, [trial(0, 5, 0.1, over=3)], THIRD, "refusals")
    assert third({"kl_divergence": 0.2, "over_refusals": 3}) == 5
    assert third({"kl_divergence": 0.2, "over_refusals": 2}) is None, "fewer over-refusals enter at any refusals"
