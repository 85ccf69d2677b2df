"""Remaining time of a search, and the end of its time budget."""

import pytest

from heretic.search import time_budget as clock_module
from heretic.search.time_budget import PREVIEW, Clock


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
