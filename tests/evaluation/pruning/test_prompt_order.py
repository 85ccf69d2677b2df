"""The prompts that are declined most often come first, and a part of them predicts the total."""

import pytest

from heretic.evaluation.pruning.prompt_order import PromptOrder


def test_prompts_that_were_declined_most_often_come_first() -> None:
    order = PromptOrder.of(100)
    order = order.learn([index % 4 == 3 for index in range(100)]).learn([index == 99 for index in range(100)])
    first = order.first_batch(1)
    assert first[0] == 99
    assert set(first[1:]) < {index for index in range(100) if index % 4 == 3}
    assert len(first) == 24


def test_all_prompts_come_first_if_a_part_could_not_settle_a_candidate() -> None:
    assert batch_sizes(100) == {0: 24, 8: 24, 20: 48, 30: 68, 40: 100, 100: 100}
    assert batch_sizes(20) == dict.fromkeys((0, 8, 20, 30, 40, 100), 20)


def batch_sizes(prompts: int) -> dict[int, int]:
    return {limit: len(PromptOrder.of(prompts).first_batch(limit)) for limit in (0, 8, 20, 30, 40, 100)}


def test_a_part_stands_for_the_refusals_that_fell_on_it() -> None:
    order = PromptOrder.of(10)
    assert order.share(range(4)) == pytest.approx(0.4), "before anything is known all prompts are alike"
    for _ in range(50):
        order = order.learn([index < 4 for index in range(10)])
    assert order.share(range(4)) == pytest.approx(1, abs=0.02)
    assert order.share(range(10)) == 1


def test_learning_leaves_the_order_that_was_sent_with_a_candidate_as_it_was() -> None:
    order = PromptOrder.of(2)
    order.learn([True, False])
    assert order == PromptOrder.of(2)
