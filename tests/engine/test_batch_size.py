"""The batch size is measured, and an out-of-memory ends the measuring, not the program."""

from typing import Any

import pytest
from torch import Tensor

from heretic.engine.batch_size import find_batch_size, find_candidates
from heretic.engine.forward import Forward
from heretic.engine.local import LocalEngine
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


def limited(engine: LocalEngine, most_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory for so many rows a forward."""
    forward = engine.forward.__call__

    def call(self: Forward, ids: Tensor, *rest: Any) -> Tensor:
        if len(ids) > most_rows:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return forward(ids, *rest)

    monkeypatch.setattr(Forward, "__call__", call)


def test_out_of_memory_ends_the_doubling(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_for("llama", 1)
    limited(engine, 2, monkeypatch)
    assert find_batch_size(engine, PROMPTS, 128, no_progress) in (1, 2)
    assert find_candidates(engine, PROMPTS[:1], no_progress) in (1, 2)
    limited(engine, 0, monkeypatch)
    with pytest.raises(ModelError, match="no memory for even one"):
        find_batch_size(engine, PROMPTS, 128, no_progress)


def test_candidates_double_while_it_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_for("llama", 4)
    rates = {1: 100.0, 2: 150.0, 4: 200.0, 8: 205.0, 16: 900.0}
    monkeypatch.setattr(engine, "decoding_rate", lambda prompts, count, _: rates[count])
    tried: list[int] = []
    assert find_candidates(engine, PROMPTS, tried.append) == 4
    assert tried == [1, 2, 4, 8]
    assert engine.batch_size == 4
