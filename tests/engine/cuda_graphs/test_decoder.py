"""Decoding by captured steps gives the responses of plain decoding.

`OpReplay` stands in for CUDA graphs: it repeats the same operations on the same memory, with every number and branch of
Python as it was at capture.
"""

from typing import Any

import pytest
import torch
from tiny_models import tiny_model

from heretic.engine.cuda_graphs.capture import CudaGraphCapturer
from heretic.engine.cuda_graphs.runner import CudaGraphRunner
from heretic.engine.forward import Forward
from heretic.engine.local import LocalEngine
from heretic.engine.options import EngineOptions, StaticDecode
from heretic.engine.protocol import no_progress
from heretic.model.chat.format import chat_format
from heretic.model.loading.load import LoadedModel
from heretic.model.sites.find import find_sites
from tests.support.captured_engines import LENGTH, answers, captured, count_calls, edits_of, is_settled
from tests.support.engines import PROMPTS, engine_for
from tests.support.op_replay import OpReplay

STATIC_DECODE: tuple[StaticDecode, ...] = ("on", "auto", "off")
CAPTURED = ["llama", "gemma2", "gpt2", "opt", "phi3"]


@pytest.fixture
def two_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens are read while the next ones are chosen, as on a GPU."""
    monkeypatch.setattr("heretic.engine.cuda_graphs.decoder.READS_IN_FLIGHT", {"cpu": 2})


@pytest.mark.usefixtures("two_reads")
@pytest.mark.parametrize("family", CAPTURED)
def test_responses_are_those_of_plain_forwards(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One capture serves other candidates, fewer candidates, other ranks and the second batch of prompts."""
    plain = engine_for(family, 33)
    fast = captured(plain)
    forwards, sizes = (
        count_calls(monkeypatch, Forward, "decode_step"),
        count_calls(monkeypatch, CudaGraphRunner, "replay"),
    )
    seen = set()
    for number, (count, rank) in enumerate([(5, 2), (5, 2), (3, 1)]):
        edits = edits_of(plain, number, count, rank)
        expected = answers(plain, edits)
        assert answers(fast, edits) == expected
        seen |= {response.tokens for row in expected for response in row}
    assert fast.uses_cuda_graphs and fast.graphs is not None
    assert len(seen) > 20
    # Captured once for each size; the model's own code never ran again.
    assert len(forwards) == len({args[0] for args in sizes})
    assert len({args[0] for args in sizes}) >= 2


@pytest.mark.gpu
@pytest.mark.parametrize("family", CAPTURED)
def test_cuda_graphs_give_the_responses_of_plain_forwards(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU itself, as above."""
    plain = engine_for(family, 33, EngineOptions(static_decode="off"), device="cuda")
    fast = captured(plain, capturer=CudaGraphCapturer(plain.loaded.device))
    sizes = count_calls(monkeypatch, CudaGraphRunner, "replay")
    for number, (count, rank) in enumerate([(5, 2), (5, 2), (3, 1)]):
        edits = edits_of(plain, number, count, rank)
        assert answers(fast, edits) == answers(plain, edits)
    assert fast.uses_cuda_graphs
    assert sizes


@pytest.mark.usefixtures("two_reads")
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_rows_are_independent_of_the_batch_that_they_share(family: str) -> None:
    """Rows of random lengths in 12 places, which take turns; and each candidate alone, with a place for every row."""
    plain = engine_for(family, 12)
    fast = captured(plain)
    edits = edits_of(plain, 7, 4, 2)
    draw = torch.Generator().manual_seed(3)
    settled_at = {f"word{n}": int(torch.randint(1, 30, (), generator=draw)) for n in range(60)}

    def is_settled(text: str) -> bool:
        words = text.split()
        return bool(words) and len(words) >= settled_at.get(words[0], 30)

    responses = [each.generate(PROMPTS, edits, 30, is_settled, no_progress) for each in (fast, plain)]
    assert responses[0] == responses[1]
    assert len({response.n_tokens for row in responses[0] for response in row}) > 3
    with fast.with_batch_size(64):
        alone = [fast.generate(PROMPTS, [edit], 30, is_settled, no_progress)[0] for edit in edits]
    assert alone == responses[0]
    assert fast.uses_cuda_graphs


def test_one_capture_serves_other_prompts_and_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = engine_for("llama", 64)
    fast = captured(plain)
    forwards = count_calls(monkeypatch, Forward, "decode_step")
    answers(fast, edits_of(plain, 0, 3))
    before = len(forwards)
    for prompts, length in ((PROMPTS[:3], 9), (PROMPTS[3:], 1), (PROMPTS[1:2], 22)):
        for edits in ([{}], edits_of(plain, 4, 2)):
            found, expected = (each.generate(prompts, edits, length, None, no_progress) for each in (fast, plain))
            assert found == expected
    assert len(forwards) == before
    # A larger batch is captured again.
    edits = edits_of(plain, 5, 4)
    assert fast.generate(PROMPTS, edits, 60, None, no_progress) == plain.generate(PROMPTS, edits, 60, None, no_progress)
    assert len(forwards) > before


def test_rows_stay_in_the_batch_without_compaction() -> None:
    plain = engine_for("llama", 64)
    fast = captured(plain, options=EngineOptions(compact_batch=False))
    edits = edits_of(plain, 1, 3)
    assert answers(fast, edits) == answers(plain, edits)


@pytest.mark.parametrize("reads", [1, 2])
def test_the_same_candidates_are_pruned(reads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heretic.engine.cuda_graphs.decoder.READS_IN_FLIGHT", {"cpu": reads})
    plain = engine_for("gemma2", 64)
    fast = captured(plain)
    for seed in range(3):
        edits = edits_of(plain, seed, 4)
        found, expected = (
            each.generate(PROMPTS, edits, LENGTH, is_settled, no_progress, [1, 2, None, 3]) for each in (fast, plain)
        )
        assert found == expected
        assert any(response.pruned for row in expected for response in row)


@pytest.mark.parametrize("family", ["bloom", "mixtral"])
def test_unsupported_models_are_decoded_by_plain_forwards(family: str) -> None:
    """One takes no position ids, the other has a router: no capture is tried, and `on` says so."""
    plain = engine_for("llama", 16)
    model = tiny_model(family)
    loaded = LoadedModel(plain.loaded.checkpoint, model, plain.loaded.tokenizer, tuple(find_sites(model)))
    said: list[str] = []
    chat = chat_format(loaded.tokenizer, None, "tiny")
    on, auto, off = (
        LocalEngine(loaded, chat, 16, EngineOptions(static_decode=value), said.append, OpReplay())
        for value in STATIC_DECODE
    )
    assert not on.uses_cuda_graphs and not auto.uses_cuda_graphs
    assert len(said) == 1 and "static_decode = on has no effect" in said[0]
    assert answers(on, [{}], 8) == answers(off, [{}], 8)


def test_without_cuda_on_warns_and_decodes_by_plain_forwards() -> None:
    plain = engine_for("llama", 16)
    said: list[str] = []
    on, auto, off = (
        LocalEngine(plain.loaded, plain.chat, 16, EngineOptions(static_decode=value), said.append)
        for value in STATIC_DECODE
    )
    assert len(said) == 1 and "the model is on cpu" in said[0]
    assert not any(engine.uses_cuda_graphs for engine in (on, auto, off))
    assert answers(on, [{}], 8) == answers(plain, [{}], 8)


def test_bfloat16_agrees_within_rounding() -> None:
    plain = engine_for("llama", 64, dtype=torch.bfloat16)
    fast = captured(plain)
    for seed in range(2):
        answers(fast, edits_of(plain, seed, 3))
    assert fast.uses_cuda_graphs


def test_the_decoding_rate_is_that_of_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = captured(engine_for("llama", 22))
    runs = count_calls(monkeypatch, CudaGraphRunner, "replay")
    compared = count_calls(monkeypatch, CudaGraphRunner, "_worst_difference")
    assert fast.decoding_rate(PROMPTS, 2, 10) > 0
    # Graphs of the measurement are not compared, and released.
    assert runs and not compared and fast.graphs is not None and not fast.graphs.has_graphs
    answers(fast, edits_of(fast, 1, 2))
    assert compared


def test_no_tensor_is_created_on_the_default_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors created without a device would be on the CPU while the model is on a GPU: here they are on no device."""
    plain = engine_for("llama", 64)
    fast = captured(plain)
    load = CudaGraphRunner.load

    def on_no_device(self: Any, *args: Any) -> bool:
        with torch.device("meta"):
            return load(self, *args)

    monkeypatch.setattr(CudaGraphRunner, "load", on_no_device)
    for seed in range(2):
        edits = edits_of(plain, seed, 3)
        assert answers(fast, edits) == answers(plain, edits)
