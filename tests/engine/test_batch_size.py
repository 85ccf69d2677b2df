"""The batch size is measured, and an out-of-memory error ends the measurement, not the program."""

from collections.abc import Callable

import pytest
from torch import Tensor

from heretic.engine.batch_size import find_batch_size, find_candidates
from heretic.engine.protocol import no_progress
from heretic.errors import ModelError
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


def test_candidates_double_while_it_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_for("llama", 4)
    rates = {1: 100.0, 2: 150.0, 4: 200.0, 8: 205.0, 16: 900.0}
    monkeypatch.setattr(engine, "decoding_rate", lambda prompts, count, _: rates[count])
    tried: list[int] = []
    assert find_candidates(engine, PROMPTS, tried.append) == 4
    assert tried == [1, 2, 4, 8]
    assert engine.batch_size == 4
