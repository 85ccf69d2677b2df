"""Remaining time of a search, and the end of its time budget."""

import pytest

from heretic.search import time_budget as clock_module
from heretic.search.time_budget import PREVIEW, Clock, HeldoutCost, LearningTime


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of a monotonic clock that the test sets."""
    seconds = [0.0]
    monkeypatch.setattr(clock_module.time, "monotonic", lambda: seconds[0])
    return seconds


def test_a_preview_and_its_trial_count_as_one_evaluation(now: list[float]) -> None:
    clock = Clock(20, None)
    assert clock.remaining is None
    clock.add_previews(20)
    now[0] = 20 * PREVIEW * 8.0
    # 8 seconds per evaluation: the rest of 20 of them.
    assert clock.remaining == pytest.approx(20 * (1 - PREVIEW) * 8)
    for _ in range(5):
        clock.add_trial(previewed=True)
    now[0] = 8 * (20 * PREVIEW + 5 * (1 - PREVIEW))
    assert clock.remaining == pytest.approx(15 * (1 - PREVIEW) * 8)


def test_trials_without_a_preview_count_as_one_evaluation(now: list[float]) -> None:
    clock = Clock(10, None)
    clock.add_trial(previewed=False)
    now[0] = 3.0
    assert clock.remaining == pytest.approx(27)


def test_a_budget_limits_the_number_of_trials(now: list[float]) -> None:
    clock = Clock(100, 60.0)
    assert clock.fitting(100) == 100
    for _ in range(4):
        clock.add_trial(previewed=False)
    now[0] = 20.0
    assert clock.fitting(100) == 8
    assert clock.fitting(3) == 3
    assert clock.remaining == pytest.approx(40)
    assert not clock.over(open_trials=7)
    assert clock.over(open_trials=8)
    now[0] = 59.0
    assert clock.over()
    assert clock.fitting(100) == 1


def test_the_budget_covers_the_held_out_evaluation(now: list[float]) -> None:
    """At 0.1 seconds a prompt, a model of 40 prompts takes 4 seconds."""
    clock = Clock(100, 60.0, HeldoutCost(prompts=40, most=10))
    assert clock.reserved == 0
    for _ in range(4):
        clock.add_trial(previewed=False)
        clock.add_prompts(50)
    clock.set_front(3)
    now[0] = 20.0
    # The baseline and three candidates.
    assert clock.reserved == pytest.approx(16)
    assert clock.remaining == pytest.approx(60 - 16 - 20)
    assert not clock.over(open_trials=4)
    assert clock.over(open_trials=5)
    # No more than half of the budget, however long the front.
    clock.set_front(10)
    assert clock.reserved == 30


def test_models_that_share_forwards_cost_less_and_a_long_front_is_not_measured_in_full() -> None:
    assert HeldoutCost(prompts=40, most=10).of(25) == 440
    assert HeldoutCost(prompts=40, most=10, together=4).of(25) == 110
    assert HeldoutCost().of(25) == 0


def test_without_a_budget_nothing_is_reserved(now: list[float]) -> None:
    clock = Clock(10, None, HeldoutCost(prompts=40, most=10))
    clock.add_trial(previewed=False)
    clock.add_prompts(50)
    clock.set_front(3)
    now[0] = 3.0
    assert clock.reserved == 0
    assert clock.remaining == pytest.approx(27)


def test_points_with_more_steps_take_longer(now: list[float]) -> None:
    """32 steps of 2 s before the first of three trials, 8 before each other one; 5 s to measure one."""
    clock = Clock(3, 200.0)
    clock.learning = LearningTime(64.0, 32, left=16, next=8)
    now[0] = 69.0
    clock.add_trial(previewed=False)
    assert clock.remaining == pytest.approx(2 * (8 * 2.0 + 5.0))
    now[0] = 188.0
    clock.learning = LearningTime(178.0, 89, left=8, next=8)
    clock.add_trial(previewed=False)
    assert not clock.over(), "half of another trial, 10.5 s, fits"
    now[0] = 190.0
    assert clock.over()


def test_before_the_first_step_learning_takes_no_known_time() -> None:
    assert LearningTime(left=32, next=32).of(32) == 0.0
