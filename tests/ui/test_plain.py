"""Plain lines: each says all it has to say, and none comes too often."""

import io
import math
import re

import pytest

from heretic.ui.plain import PlainReporter
from tests.support.ui_toys import BASELINE, FRONT, state, trial


def lines_of(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def test_facts_and_warnings_are_a_line_each(stream: io.StringIO) -> None:
    reporter = PlainReporter(stream)
    reporter.say("A fact with [brackets].")
    reporter.warn("Something to change.")
    assert lines_of(stream) == ["A fact with [brackets].", "Warning: Something to change."]


def test_a_step_tells_its_beginning_every_advance_and_its_end(stream: io.StringIO) -> None:
    with PlainReporter(stream, between=0).step("Residuals", 400) as progress:
        for _ in range(4):
            progress(100)
    begun, *advances, ended = lines_of(stream)
    assert begun == "Residuals ..."
    assert [re.sub(r"\d+ s left", "N s left", line) for line in advances] == [
        f"Residuals: {done} of 400, N s left" for done in (100, 200, 300)
    ]
    assert re.fullmatch(r"Residuals: 400 in \d+ s", ended)


def test_between_two_advances_lies_the_time_that_is_set(stream: io.StringIO) -> None:
    with PlainReporter(stream, between=math.inf).step("Residuals", 400) as progress:
        for _ in range(400):
            progress(1)
    assert len(lines_of(stream)) == 2


def test_a_step_of_unknown_length_tells_its_beginning_and_end(stream: io.StringIO) -> None:
    with PlainReporter(stream, between=0).step("Loading") as progress:
        progress(1)
    begun, ended = lines_of(stream)
    assert begun == "Loading ..."
    assert re.fullmatch(r"Loading: \d+ s", ended)


def test_a_step_that_fails_does_not_tell_of_its_end(stream: io.StringIO) -> None:
    with pytest.raises(ZeroDivisionError), PlainReporter(stream).step("Loading"):
        raise ZeroDivisionError
    assert lines_of(stream) == ["Loading ..."]


def test_a_search_is_a_line_a_trial(stream: io.StringIO) -> None:
    with PlainReporter(stream).search(state([], 0, None), 200) as view:
        view.rows(100)
        view.complete(trial(8, 4, 0.3), state())
        view.complete(trial(9, 50, 0.9), state(finished=4))
        view.failed(10, "the KL divergence on the good prompts is nan", state(finished=5, remaining=None))
    assert lines_of(stream) == [
        "Search: 0 of 200 trials done",
        "Trial 8: refusals 4/100, KL 0.3000 (on the front); 3 of 200 done, 1 min 5 s left",
        "Trial 9: refusals 50/100, KL 0.9000; 4 of 200 done, 1 min 5 s left",
        "Trial 10 failed: the KL divergence on the good prompts is nan; 5 of 200 done",
    ]


def test_the_front_is_a_table_with_its_knee_marked(stream: io.StringIO) -> None:
    PlainReporter(stream).front(FRONT, FRONT[1], BASELINE)
    assert lines_of(stream) == [
        "Pareto front (baseline: 80/100 refusals; * marks the knee)",
        "     Trial  Refusals  KL      Direction; strengths",
        "     123    0/100     0.9000  per layer; attn 1.20 @ 9, mlp 1.20 @ 9",
        "  *  8      4/100     0.3000  layer 7.0; attn 1.20 @ 9, mlp 1.20 @ 9",
        "     1      30/100    0.0500  per layer; attn 1.20 @ 9, mlp 1.20 @ 9",
    ]


def test_columns_of_a_table_are_as_wide_as_their_widest_cell(stream: io.StringIO) -> None:
    PlainReporter(stream).table("Figures", ("", "searched"), [("refusals", "3"), ("KL", "0.25 in all")])
    assert lines_of(stream) == ["Figures", "            searched", "  refusals  3", "  KL        0.25 in all"]


def test_a_table_may_have_no_rows(stream: io.StringIO) -> None:
    PlainReporter(stream).table("Figures", ("a", "b"), [])
    assert lines_of(stream) == ["Figures", "  a  b"]


def test_the_steps_of_a_learned_point_are_told_at_intervals(stream: io.StringIO) -> None:
    with PlainReporter(stream, between=0).search(state([], 0, None), 200) as view:
        view.learning(0, 16, 32, 90.0)
        view.learning(0, 32, 32, 0.0)
    assert lines_of(stream)[1:] == ["Learning point 1: step 16 of 32, 1 min 30 s left of it"]
    with PlainReporter(stream, between=math.inf).search(state([], 0, None), 200) as view:
        view.learning(0, 16, 32, 90.0)
    assert len(lines_of(stream)) == 3
