"""The batch size is measured, and an out-of-memory ends the measuring, not the program."""

import pytest
from test_local import PROMPTS, engine_for

from heretic.engine.base import no_progress
from heretic.engine.batch_size import find_batch_size
from heretic.errors import ModelError


def test_sizes_double_up_to_the_largest() -> None:
    tried: list[int] = []
    engine = engine_for("llama", 3)
    found = find_batch_size(engine, PROMPTS, 8, tried.append)
    assert tried == [1, 2, 4, 8][: len(tried)]
    assert found in tried
    assert engine.batch_size == 3


def test_out_of_memory_ends_the_doubling(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_for("llama", 1)
    respond = engine.respond

    def small(prompts, *rest):  # type: ignore[no-untyped-def]
        if len(prompts) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return respond(prompts, *rest)

    monkeypatch.setattr(engine, "respond", small)
    assert find_batch_size(engine, PROMPTS, 128, no_progress) in (1, 2)
    monkeypatch.setattr(engine, "respond", lambda *_: small([1, 2, 3]))
    with pytest.raises(ModelError, match="no memory for even one"):
        find_batch_size(engine, PROMPTS, 128, no_progress)
