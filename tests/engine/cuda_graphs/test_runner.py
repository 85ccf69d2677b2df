"""Recorded steps that can't be trusted are found out, told of, and change no response."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from heretic.ablation.edit import SiteEdit
from heretic.engine.cuda_graphs.capture import OpReplay, Recording
from heretic.engine.cuda_graphs.static_batch import FixedLayer
from heretic.engine.cuda_graphs.static_edits import FixedEdits
from heretic.engine.forward import Forward
from heretic.engine.protocol import no_progress
from tests.support.engines import PROMPTS, engine_for
from tests.support.recorded_engines import answers, count_calls, edits_of, static


def bake_column(monkeypatch: pytest.MonkeyPatch) -> None:
    def update(self: Any, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        place = self.cumulative_length.detach().clone()
        place[0] = 9
        self.keys.index_copy_(2, place, keys)
        self.values.index_copy_(2, place, values)
        return self.keys, self.values

    monkeypatch.setattr(FixedLayer, "update", update)


def bake_places(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Forward.step
    monkeypatch.setattr(
        Forward, "step", lambda self, ids, places, *rest: original(self, ids, torch.full_like(places, 7), *rest)
    )


def bake_edits(monkeypatch: pytest.MonkeyPatch) -> None:
    original = FixedEdits._apply

    def apply(self: Any, number: int, *rest: Any) -> Tensor:
        kept = self._left, self._right, self._scale
        self._left, self._right, self._scale = (torch.tensor(each.tolist()) for each in kept)
        try:
            return original(self, number, *rest)
        finally:
            self._left, self._right, self._scale = kept

    monkeypatch.setattr(FixedEdits, "_apply", apply)


def bake_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    original = FixedEdits.in_force
    monkeypatch.setattr(FixedEdits, "in_force", lambda self, rows: original(self, torch.zeros_like(rows)))


def give_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Forward.step
    monkeypatch.setattr(Forward, "step", lambda self, *args: original(self, *args) * float("nan"))


def wait_for_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    def update(self: Any, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        place = int(self.cumulative_length)
        self.keys[:, :, place], self.values[:, :, place] = keys[:, :, 0], values[:, :, 0]
        return self.keys, self.values

    monkeypatch.setattr(FixedLayer, "update", update)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (bake_column, "differ from those of a plain forward"),
        (bake_places, "differ from those of a plain forward"),
        (bake_candidates, "differ from those of a plain forward"),
        (bake_edits, "differ from those of a plain forward"),
        (give_nan, "differ from those of a plain forward"),
        (wait_for_the_host, "can't wait for the value of a tensor"),
    ],
)
def test_a_fault_is_found_and_told_and_changes_nothing(
    fault: Callable[[pytest.MonkeyPatch], None], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = engine_for("llama", 64)
    said: list[str] = []
    fixed = static(plain, said)
    fault(monkeypatch)
    for seed in range(3):
        edits = edits_of(plain, seed, 3)
        assert answers(fixed, edits) == answers(plain, edits)
    [text] = said
    assert reason in text and "static_decode" in text


def test_edits_of_the_recording_alone_are_found_by_the_second_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first comparison can't see it: the edits are still those that were recorded."""
    plain = engine_for("llama", 64)
    said: list[str] = []
    fixed = static(plain, said)
    fill = FixedEdits.fill
    filled: list[int] = []

    def once(self: Any, edits: Any) -> bool:
        filled.append(1)
        return fill(self, edits) if len(filled) == 1 else True

    monkeypatch.setattr(FixedEdits, "fill", once)
    first, second = edits_of(plain, 1, 3), edits_of(plain, 2, 3)
    assert answers(fixed, first) == answers(plain, first)
    assert not said
    assert answers(fixed, second) == answers(plain, second)
    assert "differ" in said[0]


class Forgetful(OpReplay):
    """Has no memory for the first batch."""

    recorded = 0

    def record(self, *args: Any) -> Recording:
        self.recorded += 1
        if self.recorded == 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return super().record(*args)


def test_without_memory_only_smaller_batches_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heretic.engine.local.recorder_for", lambda _: Forgetful())
    plain = engine_for("llama", 64)
    said: list[str] = []
    fixed = static(plain, said)
    forwards = count_calls(monkeypatch, Forward, "step")
    edits = edits_of(plain, 1, 3)
    assert answers(fixed, edits) == answers(plain, edits)
    assert answers(fixed, edits) == answers(plain, edits)
    assert len(said) == 1 and "no memory" in said[0] and not forwards
    assert answers(fixed, [{}]) == answers(plain, [{}])
    assert forwards and fixed._steps is not None and fixed._steps.works and fixed._steps.batch.need.rows == 11


def test_what_an_edit_breaks_stays_with_its_own_rows() -> None:
    """Infinities of one candidate neither reach the others nor the next batch."""
    plain = engine_for("llama", 64)
    fixed = static(plain)
    good = edits_of(plain, 1, 2)
    for huge in (3e38, float("inf")):
        broken = {site.module: SiteEdit(torch.full((32, 1), huge), torch.ones(32, 1)) for site in plain.sites}
        found = answers(fixed, [good[0], broken])
        assert found[0] == answers(plain, [good[0]])[0]
        assert answers(fixed, good) == answers(plain, good)


def test_candidates_without_one_finite_logit_prove_nothing() -> None:
    plain = engine_for("llama", 64)
    fixed = static(plain)
    broken = [{site.module: SiteEdit(torch.full((32, 1), 3e38), torch.ones(32, 1)) for site in plain.sites}]
    assert not torch.isfinite(plain.first_token_log_probabilities(PROMPTS, broken, no_progress)).any()
    assert answers(fixed, broken) == answers(plain, broken)
    assert fixed.records_steps and fixed._steps is not None and fixed._steps._proofs == 0
