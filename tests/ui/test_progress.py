"""Prompts and times of a search: they go on between trials, never back, and end where they must."""

import dataclasses

import pytest

from heretic.events import SearchState
from heretic.ui.progress import SearchProgress
from tests.support.ui_toys import state


def now(finished: int, under_way: int) -> SearchState:
    return dataclasses.replace(state(finished=finished), under_way=under_way)


def test_prompts_of_several_trials_at_once_are_added_up() -> None:
    progress = SearchProgress(now(0, 0), 100)
    progress.add(90)
    progress.add(70)
    assert progress.prompts() == "160 of 20000 prompts"
    progress.add(10)
    # One of two trials ended; the other has done 70.
    progress.settle(now(1, 1))
    assert progress.prompts() == "170 of 20000 prompts" and progress.trials == pytest.approx(1.7)


def test_what_a_trial_left_out_counts_as_done() -> None:
    progress = SearchProgress(now(4, 0), 100)
    progress.add(30)
    progress.settle(now(5, 0))
    assert progress.trials == 5


def test_what_ran_twice_for_want_of_memory_counts_once() -> None:
    progress = SearchProgress(now(0, 0), 100)
    progress.add(190)
    progress.settle(now(1, 0))
    assert progress.trials == 1


def test_prompts_end_with_the_search() -> None:
    progress = SearchProgress(now(199, 0), 100)
    progress.add(500)
    assert progress.prompts() == "20000 of 20000 prompts"


def test_times_go_on_while_no_trial_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 100.0
    monkeypatch.setattr("heretic.ui.progress.time.monotonic", lambda: clock)
    progress = SearchProgress(state(remaining=65.0), 100)
    assert progress.times() == "1 h elapsed, 1 min 5 s left"
    clock = 160.0
    assert progress.times() == "1 h 1 min elapsed, 5 s left"
    clock = 200.0
    assert progress.times() == "1 h 1 min elapsed, 0 s left"
    progress.settle(state(finished=0, remaining=None))
    assert progress.times() == "1 h elapsed, measuring the first trials"
    # After the first trials the text no longer mentions them.
    progress.settle(state(finished=3, remaining=None))
    assert progress.times() == "1 h elapsed, measuring"


def test_a_point_that_is_learned_shows_its_steps_until_a_trial_ends() -> None:
    progress = SearchProgress(state(remaining=65.0), 100)
    progress.learn(2, 3, 8, 20.0)
    assert progress.times() == "1 h elapsed, learning point 3: step 3 of 8, 20 s left of it"
    progress.learn(2, 8, 8, 0.0)
    assert progress.times() == "1 h elapsed, 1 min 5 s left"
    progress.learn(3, 1, 8, 20.0)
    progress.settle(state(remaining=30.0))
    assert progress.times() == "1 h elapsed, 30 s left"
