"""Wrong captures are detected and reported, and change no response."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from heretic.ablation.edit import SiteEdit, edit_rows
from heretic.engine.cuda_graphs.capture import Graph
from heretic.engine.cuda_graphs.static_batch import StaticKVLayer
from heretic.engine.cuda_graphs.static_edits import StaticEdits
from heretic.engine.forward import Forward
from heretic.engine.protocol import no_progress
from tests.support.captured_engines import answers, captured, count_calls, edits_of
from tests.support.engines import PROMPTS, engine_for
from tests.support.op_replay import OpReplay


def freeze_cache_position(monkeypatch: pytest.MonkeyPatch) -> None:
    def update(self: Any, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        self.keys[:, :, 9], self.values[:, :, 9] = keys[:, :, 0], values[:, :, 0]
        return self.keys, self.values

    monkeypatch.setattr(StaticKVLayer, "update", update)


def freeze_position_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Forward.decode_step
    monkeypatch.setattr(
        Forward,
        "decode_step",
        lambda self, ids, position_ids, *rest: original(self, ids, torch.full_like(position_ids, 7), *rest),
    )


def freeze_edits(monkeypatch: pytest.MonkeyPatch) -> None:
    frozen: list[Tensor] = []

    def constant(factor: Tensor) -> Tensor:
        frozen.append(torch.tensor(factor.tolist()))
        return frozen[-1]

    def apply(edit: SiteEdit, candidates: Tensor, output: Tensor) -> Tensor:
        assert edit.scale is not None
        return edit_rows(SiteEdit(constant(edit.left), constant(edit.right), constant(edit.scale)), candidates, output)

    monkeypatch.setattr("heretic.engine.cuda_graphs.static_edits.edit_rows", apply)


def freeze_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    original, frozen = StaticEdits.hooked, []

    def hooked(self: StaticEdits, rows: Tensor) -> Any:
        frozen.append(torch.zeros_like(rows))
        return original(self, frozen[-1])

    monkeypatch.setattr(StaticEdits, "hooked", hooked)


def give_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Forward.decode_step
    monkeypatch.setattr(Forward, "decode_step", lambda self, *args: original(self, *args) * float("nan"))


def wait_for_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    def update(self: Any, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        place = int(self.cumulative_length[0])
        self.keys[:, :, place], self.values[:, :, place] = keys[:, :, 0], values[:, :, 0]
        return self.keys, self.values

    monkeypatch.setattr(StaticKVLayer, "update", update)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (freeze_cache_position, "differ from those of a plain forward"),
        (freeze_position_ids, "differ from those of a plain forward"),
        (freeze_candidates, "differ from those of a plain forward"),
        (freeze_edits, "differ from those of a plain forward"),
        (give_nan, "differ from those of a plain forward"),
        (wait_for_the_host, "can't wait for the value of a tensor"),
    ],
)
def test_a_fault_is_detected_and_reported_and_changes_no_response(
    fault: Callable[[pytest.MonkeyPatch], None], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = engine_for("llama", 64)
    said: list[str] = []
    fast = captured(plain, said)
    fault(monkeypatch)
    for seed in range(3):
        edits = edits_of(plain, seed, 3)
        assert answers(fast, edits) == answers(plain, edits)
    [text] = said
    assert reason in text and "static_decode" in text


def test_edits_frozen_by_the_capture_are_detected_by_the_second_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first comparison can't detect them: the edits are still those of the capture."""
    plain = engine_for("llama", 64)
    said: list[str] = []
    fast = captured(plain, said)
    load = StaticEdits.load
    loaded: list[int] = []

    def once(self: Any, edits: Any) -> bool:
        loaded.append(1)
        return load(self, edits) if len(loaded) == 1 else True

    monkeypatch.setattr(StaticEdits, "load", once)
    first, second = edits_of(plain, 1, 3), edits_of(plain, 2, 3)
    assert answers(fast, first) == answers(plain, first)
    assert not said
    assert answers(fast, second) == answers(plain, second)
    assert "differ" in said[0]


class SmallMemory(OpReplay):
    """Runs out of memory at the first capture."""

    n_captures = 0

    def capture(self, *args: Any) -> Graph:
        self.n_captures += 1
        if self.n_captures == 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return super().capture(*args)


def test_rows_that_have_no_memory_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = engine_for("llama", 64)
    said: list[str] = []
    fast = captured(plain, said, capturer=SmallMemory())
    forwards = count_calls(monkeypatch, Forward, "decode_step")
    edits = edits_of(plain, 1, 3)
    for _ in range(2):
        assert answers(fast, edits) == answers(plain, edits)
        assert fast.graphs is not None and fast.graphs.batch.capacity.rows == 16
    assert forwards and len(said) == 1 and "no memory for recorded steps of 33 rows" in said[0]
    assert answers(fast, [{}]) == answers(plain, [{}])
    assert fast.uses_cuda_graphs


def test_a_prefill_without_memory_is_tried_with_fewer_rows() -> None:
    """Retries with fewer rows as long as no token has been read; later, the caller gets the error."""
    plain = engine_for("llama", 64)
    said: list[str] = []
    fast = captured(plain, said)
    edits = edits_of(plain, 1, 3)
    largest = 20

    def check(ids: Tensor) -> None:
        if len(ids) > largest:
            raise torch.OutOfMemoryError("CUDA out of memory")

    expected = answers(plain, edits)
    with fast.forward.observed(check):
        assert answers(fast, edits) == expected
        assert len(said) == 1 and fast.graphs is not None and fast.graphs.batch.capacity.rows == 16
        largest = 2
        with pytest.raises(torch.OutOfMemoryError):
            answers(fast, edits)


def test_infinite_edits_stay_with_their_own_rows() -> None:
    """Infinities of one candidate reach neither the others nor the next batch."""
    plain = engine_for("llama", 64)
    fast = captured(plain)
    good = edits_of(plain, 1, 2)
    for huge in (3e38, float("inf")):
        broken = {site.module: SiteEdit(torch.full((32, 1), huge), torch.ones(32, 1)) for site in plain.sites}
        found = answers(fast, [good[0], broken])
        assert found[0] == answers(plain, [good[0]])[0]
        assert answers(fast, good) == answers(plain, good)


def test_candidates_without_a_finite_logit_are_no_check() -> None:
    plain = engine_for("llama", 64)
    fast = captured(plain)
    broken = [{site.module: SiteEdit(torch.full((32, 1), 3e38), torch.ones(32, 1)) for site in plain.sites}]
    assert not torch.isfinite(plain.first_token_log_probabilities(PROMPTS, broken, no_progress)).any()
    assert answers(fast, broken) == answers(plain, broken)
    assert fast.uses_cuda_graphs and fast.graphs is not None and not any(fast.graphs._checked.values())
