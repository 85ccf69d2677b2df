"""The prompts that tell most come first, and a part of them stands for all."""

import pytest

from heretic.evaluation.pruning.prompt_order import PromptOrder


def test_prompts_that_were_declined_most_often_come_first() -> None:
    informative = PromptOrder(100)
    informative.learn([index % 4 == 3 for index in range(100)])
    informative.learn([index == 99 for index in range(100)])
    first = informative.first(1)
    assert first[0] == 99
    assert set(first[1:]) < {index for index in range(100) if index % 4 == 3}
    assert len(first) == 24


def test_where_a_part_could_not_settle_it_all_are_asked() -> None:
    assert informative_sizes(100) == {0: 24, 8: 24, 20: 48, 30: 68, 40: 100, 100: 100}
    assert informative_sizes(20) == dict.fromkeys((0, 8, 20, 30, 40, 100), 20)


def informative_sizes(prompts: int) -> dict[int, int]:
    return {enough: len(PromptOrder(prompts).first(enough)) for enough in (0, 8, 20, 30, 40, 100)}


def test_a_part_stands_for_the_refusals_that_fell_on_it() -> None:
    informative = PromptOrder(10)
    assert informative.share(range(4)) == pytest.approx(0.4), "nothing learnt: all prompts alike"
    for _ in range(50):
        informative.learn([index < 4 for index in range(10)])
    assert informative.share(range(4)) == pytest.approx(1, abs=0.02)
    assert informative.share(range(10)) == 1
