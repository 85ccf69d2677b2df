"""Decoding by recorded steps gives what decoding step by step gives, and says so where it can't.

A tape stands for a CUDA graph: it repeats the same operations on the same memory, with every number and branch of
Python as it was when it was recorded.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_local import PROMPTS, engine_for
from tiny_models import tiny_model
from torch import Tensor

from heretic.ablation.edit import ModelEdit, SiteEdit
from heretic.engine.base import Response, no_progress
from heretic.engine.fixed_batch import FixedBatch, FixedLayer, FixedRows, Need
from heretic.engine.forward import Forward
from heretic.engine.local import LocalEngine
from heretic.engine.recorded_steps import RecordedSteps
from heretic.engine.recording import Recording, Tapes
from heretic.model.chat import chat_format
from heretic.model.fixed_edits import FixedEdits
from heretic.model.loading import LoadedModel
from heretic.model.sites import find_sites

RECORDED = ["llama", "gemma2", "gpt2", "opt", "phi3"]
LENGTH = 22


def static(plain: LocalEngine, said: list[str] | None = None, **shortcuts: Any) -> LocalEngine:
    """An engine of the same model that decodes by recorded steps; what it says is an error, or is kept in `said`."""

    def warn(text: str) -> None:
        assert said is not None, text
        said.append(text)

    return LocalEngine(plain.loaded, plain.chat, plain.batch_size, static_decode="on", warn=warn, **shortcuts)


def edits_of(engine: LocalEngine, seed: int, count: int, rank: int = 1) -> list[ModelEdit]:
    """Candidates that edit different sites, with a scale or without; the last one is the baseline."""
    draw = torch.Generator().manual_seed(seed)
    edits: list[ModelEdit] = []
    for number in range(count - 1):
        right = torch.nn.functional.normalize(torch.randn(32, rank, generator=draw), dim=0)
        scale = 1 + 0.2 * torch.randn(32, generator=draw) if number % 2 else None
        sites = engine.sites[number % 2 :: 2] if number else engine.sites
        edits.append({site.module: SiteEdit(1.2 * right, right, scale) for site in sites})
    return [*edits, {}]


def decided(text: str) -> bool:
    return "word1" in text


def answers(engine: LocalEngine, edits: list[ModelEdit], length: int = LENGTH) -> list[list[Response]]:
    return engine.respond(PROMPTS, edits, length, decided, no_progress)


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens are read while the next ones are chosen, as on a GPU."""
    monkeypatch.setattr("heretic.engine.static_decoding.AHEAD", {"cpu": 2})


@pytest.mark.usefixtures("ahead")
@pytest.mark.parametrize("family", RECORDED)
def test_recorded_steps_give_what_single_steps_give(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other candidates, fewer candidates, other ranks and the second batch of prompts too, by the same recording."""
    plain = engine_for(family, 33)
    fixed = static(plain)
    forwards, sizes = count_calls(monkeypatch, Forward, "step"), count_calls(monkeypatch, RecordedSteps, "run")
    seen = set()
    for number, (count, rank) in enumerate([(5, 2), (5, 2), (3, 1)]):
        edits = edits_of(plain, number, count, rank)
        expected = answers(plain, edits)
        # Steps are proved by the first two.
        sizes.clear()
        assert answers(fixed, edits) == expected
        seen |= {response.tokens for row in expected for response in row}
    assert fixed.records_steps and fixed._steps is not None
    assert len(seen) > 20
    # Recorded once for each size; nothing of the model's own code ran after that.
    assert len(forwards) == len(fixed._steps.batch.need.sizes)
    assert len({args[0] for args in sizes}) >= 2


def count_calls(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> list[tuple[Any, ...]]:
    original, calls = getattr(owner, name), []

    def counted(self: Any, *args: Any) -> Any:
        calls.append(args)
        return original(self, *args)

    monkeypatch.setattr(owner, name, counted)
    return calls


def test_other_prompts_and_lengths_use_the_same_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = engine_for("llama", 64)
    fixed = static(plain)
    forwards = count_calls(monkeypatch, Forward, "step")
    answers(fixed, edits_of(plain, 0, 3))
    before = len(forwards)
    for prompts, length in ((PROMPTS[:3], 9), (PROMPTS[3:], 1), (PROMPTS[1:2], 22)):
        for edits in ([{}], edits_of(plain, 4, 2)):
            found, expected = (each.respond(prompts, edits, length, None, no_progress) for each in (fixed, plain))
            assert found == expected
    assert len(forwards) == before
    # What there is no room for is recorded anew.
    edits = edits_of(plain, 5, 4)
    assert fixed.respond(PROMPTS, edits, 60, None, no_progress) == plain.respond(PROMPTS, edits, 60, None, no_progress)
    assert len(forwards) > before


def test_rows_stay_where_that_is_wanted() -> None:
    plain = engine_for("llama", 64)
    fixed = static(plain, compact=False)
    edits = edits_of(plain, 1, 3)
    assert answers(fixed, edits) == answers(plain, edits)


@pytest.mark.parametrize("looks", [1, 2])
def test_candidates_that_are_given_up_are_the_same(looks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heretic.engine.static_decoding.AHEAD", {"cpu": looks})
    plain = engine_for("gemma2", 64)
    fixed = static(plain)
    for seed in range(3):
        edits = edits_of(plain, seed, 4)
        found, expected = (
            each.respond(PROMPTS, edits, LENGTH, decided, no_progress, [1, 2, None, 3]) for each in (fixed, plain)
        )
        assert found == expected
        assert any(response.cut for row in expected for response in row)


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


class Forgetful(Tapes):
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


@pytest.mark.parametrize("family", ["bloom", "mixtral"])
def test_other_models_are_decoded_step_by_step(family: str) -> None:
    """No positions to be given, and a router: nothing is tried."""
    plain = engine_for("llama", 16)
    model = tiny_model(family)
    loaded = LoadedModel(plain.loaded.checkpoint, model, plain.loaded.tokenizer, tuple(find_sites(model)))
    both = [
        LocalEngine(loaded, chat_format(loaded.tokenizer, None, "tiny"), 16, static_decode=on) for on in ("on", "off")
    ]
    assert not both[0].records_steps
    found, expected = (answers(each, [{}], 8) for each in both)
    assert found == expected


def test_bfloat16_agrees_within_rounding() -> None:
    plain = engine_for("llama", 64, dtype=torch.bfloat16)
    fixed = static(plain)
    for seed in range(2):
        answers(fixed, edits_of(plain, seed, 3))
    assert fixed.records_steps


def test_the_rate_is_that_of_recorded_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = static(engine_for("llama", 22))
    runs = count_calls(monkeypatch, RecordedSteps, "run")
    assert fixed.decoding_rate(PROMPTS, 2, 10) > 0
    # What measuring used is given back.
    assert runs and not fixed.has_recorded


def test_nothing_is_made_on_a_device_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """What names no device would be on the CPU while the model is on a GPU: here it holds nothing at all."""
    plain = engine_for("llama", 64)
    fixed = static(plain)
    begin = RecordedSteps.begin

    def on_no_device(self: Any, *args: Any) -> bool:
        with torch.device("meta"):
            return begin(self, *args)

    monkeypatch.setattr(RecordedSteps, "begin", on_no_device)
    for seed in range(2):
        edits = edits_of(plain, seed, 3)
        assert answers(fixed, edits) == answers(plain, edits)


def test_sizes_fall_from_all_rows_to_a_sixteenth() -> None:
    need = Need(rows=800, positions=150, tokens=100, candidates=8, rank=1)
    assert need.sizes == [800, 600, 400, 300, 200, 150, 100, 50]
    assert need.capacity == 160
    assert need.covers(Need(100, 150, 100, 1, 1)) and not need.covers(Need(100, 151, 100, 1, 1))
    assert Need(1, 8, 4, 1, 1).sizes == [1]


def test_rows_of_a_batch_are_views_of_it() -> None:
    plain = engine_for("llama", 8)
    with torch.inference_mode():
        [start] = plain._prefill.batches([[5, 6, 7], [8, 9, 3]], 8, plain._work([{}], lambda _: None, 4))
        batch = FixedBatch(start, Need(4, 8, 4, 1, 1))
        batch.load(start, torch.tensor([1, 2]))
        rows = FixedRows(batch, 2)
        assert rows.mask.data_ptr() == batch.mask.data_ptr()
        assert torch.equal(batch.keys[0][:2, :, :3], start.cache.layers[0].keys)
        batch.keep(torch.tensor([1]))
        assert torch.equal(batch.keys[0][0, :, :3], start.cache.layers[0].keys[1])
        assert int(rows.ids[0, 0]) == 2
