"""Intervals and tests are those of the textbooks."""

import itertools
import math

import numpy as np
import pytest

from heretic.evaluation.heldout.schema import Paired
from heretic.evaluation.statistics import kl_statistics, paired, rate


@pytest.mark.parametrize(("count", "of"), [(0, 100), (3, 100), (50, 100), (97, 100), (100, 100), (1, 4)])
def test_wilson_by_its_formula(count: int, of: int) -> None:
    z, p = 1.959963984540054, count / of
    centre = (p + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * math.sqrt(p * (1 - p) / of + z * z / (4 * of * of))
    found = rate(count, of)
    assert (found.low, found.high) == pytest.approx((max(0.0, centre - half), min(1.0, centre + half)), abs=1e-12)
    assert found.low <= found.share <= found.high


def test_three_in_a_hundred_is_one_to_eight_and_a_half_percent() -> None:
    found = rate(3, 100)
    assert (round(100 * found.low, 1), round(100 * found.high, 1)) == (1.0, 8.5)


def test_of_nothing_anything_is_possible() -> None:
    assert (rate(0, 0).low, rate(0, 0).high) == (0.0, 1.0)


@pytest.mark.parametrize(("only_first", "only_second"), list(itertools.product(range(7), range(7))))
def test_mcnemar_by_counting_coin_tosses(only_first: int, only_second: int) -> None:
    first = [True] * only_first + [False] * only_second + [True, False, True]
    second = [False] * only_first + [True] * only_second + [True, False, True]
    found = paired(first, second)
    differing = only_first + only_second
    extreme = min(only_first, only_second)
    tail = sum(math.comb(differing, k) for k in range(extreme + 1)) / 2**differing
    assert found == Paired(only_first=only_first, only_second=only_second, p_value=found.p_value)
    assert found.p_value == pytest.approx(min(1.0, 2 * tail))


def test_six_to_none_is_significant_and_five_is_not() -> None:
    assert paired([True] * 6, [False] * 6).distinguishable
    assert not paired([True] * 5, [False] * 5).distinguishable
    assert not paired([True] * 90, [True] * 90).distinguishable


def test_the_statistics_of_kl_by_hand() -> None:
    values = [0.1 * i for i in range(1, 10)] + [10.0]
    found = kl_statistics(values)
    assert found is not None
    assert found.mean == pytest.approx(1.45)
    assert found.median == pytest.approx(0.55)
    assert found.trimmed_mean == pytest.approx(sum(values[1:9]) / 8)  # the highest and the lowest left out
    assert found.standard_error == pytest.approx(np.std(values, ddof=1) / math.sqrt(10))
    assert (found.worst, found.worst_prompt) == (10.0, 9)
    assert found.worst_share == pytest.approx(10 / 14.5)
    assert found.low < found.mean < found.high


def test_one_prompt_moves_the_mean_and_not_the_median() -> None:
    calm, wild = kl_statistics([0.01] * 99 + [0.02]), kl_statistics([0.01] * 99 + [20.0])
    assert calm is not None
    assert wild is not None
    assert wild.mean > 20 * calm.mean
    assert (wild.median, wild.trimmed_mean) == (calm.median, calm.trimmed_mean)
    assert wild.worst_share > 0.9
    assert wild.high - wild.low > 10 * (calm.high - calm.low)


def test_infinite_divergences_are_counted_apart() -> None:
    found = kl_statistics([math.inf, 1.0, 3.0])
    assert found is not None
    assert (found.prompts, found.infinite, found.mean, found.worst_prompt) == (3, 1, 2.0, 2)
    assert kl_statistics([math.inf]) is None
    with pytest.raises(ValueError, match="NaN"):
        kl_statistics([0.1, math.nan])


def test_divergences_that_are_all_alike_have_no_spread() -> None:
    found = kl_statistics([0.0] * 5)
    assert found is not None
    assert (found.mean, found.low, found.high, found.standard_error, found.worst_share) == (0.0, 0.0, 0.0, 0.0, 0.0)
    single = kl_statistics([0.5])
    assert single is not None
    assert (single.low, single.high) == (0.5, 0.5)


def test_the_interval_holds_the_true_mean_about_as_often_as_it_says() -> None:
    draw = np.random.default_rng(1)
    held = 0
    for _ in range(60):
        found = kl_statistics(list(draw.exponential(1.0, size=100)))
        assert found is not None
        held += found.low <= 1.0 <= found.high
    # 95 % of 60 is 57; fewer than 50 of them has a probability of 1e-4.
    assert held >= 50


def test_the_same_data_gives_the_same_interval() -> None:
    values = list(np.random.default_rng(2).exponential(size=50))
    assert kl_statistics(values) == kl_statistics(values)


def test_divergences_that_rounding_puts_below_0_are_0() -> None:
    statistics = kl_statistics([-3e-8, -1e-8, 2e-8])
    assert statistics is not None
    assert statistics.low >= 0 and statistics.worst_share == 1 and statistics.median == 0
