"""The batch size is measured, and an out-of-memory error ends the measurement, not the program."""

from collections.abc import Callable

import pytest
from torch import Tensor

from heretic.engine.batch_size import (
    MAX_CANDIDATES,
    enough_candidates,
    find_batch_size,
    find_candidates,
    planned_batch_size,
    planned_candidates,
    whole_responses,
)
from heretic.engine.protocol import no_progress
from heretic.errors import ModelError, NoMemoryError
from tests.support.engines import PROMPTS, engine_for


def test_sizes_double_up_to_the_largest() -> None:
    tried: list[int] = []
    engine = engine_for("llama", 3)
    found = find_batch_size(engine, PROMPTS, 8, tried.append)
    assert tried == [1, 2, 4, 8][: len(tried)]
    assert found in tried
    assert engine.batch_size == 3


def memory_for(max_rows: int) -> Callable[[Tensor], None]:
    """An observer of forwards that fails where one has more rows."""

    def check(ids: Tensor) -> None:
        if len(ids) > max_rows:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    return check


def test_out_of_memory_ends_the_doubling() -> None:
    engine = engine_for("llama", 1)
    with engine.forward.observed(memory_for(2)):
        assert find_batch_size(engine, PROMPTS, 128, no_progress) in (1, 2)
        assert find_candidates(engine, PROMPTS[:1], no_progress) in (1, 2)
    with engine.forward.observed(memory_for(0)), pytest.raises(ModelError, match="no memory for even one"):
        find_batch_size(engine, PROMPTS, 128, no_progress)
    assert engine.batch_size == 1


def test_whole_responses_take_fewer_rows_where_memory_runs_out() -> None:
    engine = engine_for("llama", 8)
    expected = engine.generate(PROMPTS, [{}], 3, None, no_progress)
    with engine.forward.observed(memory_for(2)):
        assert whole_responses(engine, PROMPTS, [{}], 3, no_progress) == expected
    assert engine.batch_size == 2
    with engine.forward.observed(memory_for(0)), pytest.raises(NoMemoryError, match="no memory for even one"):
        whole_responses(engine, PROMPTS, [{}], 3, no_progress)


def test_candidates_double_while_it_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_for("llama", 4)
    rates = {1: 100.0, 2: 150.0, 4: 200.0, 8: 205.0, 16: 900.0}
    monkeypatch.setattr(engine, "decoding_rate", lambda prompts, count, _: rates[count])
    tried: list[int] = []
    assert find_candidates(engine, PROMPTS, tried.append) == 4
    assert tried == [1, 2, 4, 8]
    assert engine.batch_size == 4


def test_two_steps_tell_how_many_candidates_are_enough() -> None:
    """The seconds of a step that docs/speed.md has for Llama-3.1-8B's shape: 8 candidates were the fastest there."""
    assert enough_candidates(0.0163, 0.0292, 4) == 9
    # A step whose time is all rows needs one; one whose time is all fixed, as many as may be.
    assert enough_candidates(1.0, 4.0, 4) == 1
    assert enough_candidates(1.0, 1.0, 4) == MAX_CANDIDATES


@pytest.mark.parametrize(("rows", "expected"), [(10_000, 9), (500, 5), (150, 1), (60, 1)])
def test_candidates_on_an_accelerator_follow_from_memory_and_two_runs(
    rows: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, prompts = engine_for("llama", 4), [PROMPTS[0]] * 100
    monkeypatch.setattr("heretic.engine.batch_size.measured_plan", lambda *_: None)
    monkeypatch.setattr("heretic.engine.batch_size.fitting_rows", lambda *_: rows)
    seconds = {1: 0.0163, 4: 0.0292}
    monkeypatch.setattr(engine, "decoding_rate", lambda prompts, count, _: count * len(prompts) / seconds[count])
    tried: list[int] = []
    assert planned_candidates(engine, prompts, 100, tried.append) == expected
    assert tried == ([1, 4] if expected > 1 else [])
    assert planned_batch_size(engine, prompts, 128, 100) == min(rows, 128)


def test_a_model_without_room_for_a_row_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heretic.engine.batch_size.measured_plan", lambda *_: None)
    monkeypatch.setattr("heretic.engine.batch_size.fitting_rows", lambda *_: 0)
    with pytest.raises(ModelError, match="no memory for even one"):
        planned_batch_size(engine_for("llama", 1), PROMPTS, 128, 100)
