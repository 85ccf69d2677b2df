"""What a search says of the time that it needs, and when its budget ends it."""

import pytest

from heretic.search import time_budget as clock_module
from heretic.search.time_budget import LOOK, Clock


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the clock reads; a test moves them."""
    seconds = [0.0]
    monkeypatch.setattr(clock_module.time, "monotonic", lambda: seconds[0])
    return seconds


def test_looks_and_trials_are_parts_of_the_same_work(now: list[float]) -> None:
    clock = Clock(20, None)
    assert clock.remaining is None
    clock.looked(20)
    now[0] = 20 * LOOK * 8.0
    # At 8 seconds a whole trial, what is left of 20 of them.
    assert clock.remaining == pytest.approx(20 * (1 - LOOK) * 8)
    for _ in range(5):
        clock.lap(looked=True)
    now[0] = 8 * (20 * LOOK + 5 * (1 - LOOK))
    assert clock.remaining == pytest.approx(15 * (1 - LOOK) * 8)


def test_trials_that_nobody_looked_at_count_whole(now: list[float]) -> None:
    clock = Clock(10, None)
    clock.lap(looked=False)
    now[0] = 3.0
    assert clock.remaining == pytest.approx(27)


def test_the_budget_ends_a_search_and_says_how_many_trials_fit(now: list[float]) -> None:
    clock = Clock(100, 60.0)
    assert clock.fitting(100) == 100
    for _ in range(4):
        clock.lap(looked=False)
    now[0] = 20.0
    assert clock.fitting(100) == 8
    assert clock.fitting(3) == 3
    assert clock.remaining == pytest.approx(40)
    assert not clock.over(open_trials=7)
    assert clock.over(open_trials=8)
    now[0] = 59.0
    assert clock.over()
    assert clock.fitting(100) == 1
