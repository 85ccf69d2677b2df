"""Decoding by recorded steps gives what decoding step by step gives, and says so where it can't.

A tape stands for a CUDA graph: it repeats the same operations on the same memory, with every number and branch of
Python as it was when it was recorded.
"""

from typing import Any

import pytest
import torch
from tiny_models import tiny_model

from heretic.engine.cuda_graphs.runner import CudaGraphRunner
from heretic.engine.forward import Forward
from heretic.engine.local import LocalEngine
from heretic.engine.protocol import no_progress
from heretic.model.chat.format import chat_format
from heretic.model.loading.load import LoadedModel
from heretic.model.sites.find import find_sites
from tests.support.engines import PROMPTS, engine_for
from tests.support.recorded_engines import LENGTH, answers, count_calls, decided, edits_of, static

RECORDED = ["llama", "gemma2", "gpt2", "opt", "phi3"]


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens are read while the next ones are chosen, as on a GPU."""
    monkeypatch.setattr("heretic.engine.cuda_graphs.decoder.AHEAD", {"cpu": 2})


@pytest.mark.usefixtures("ahead")
@pytest.mark.parametrize("family", RECORDED)
def test_recorded_steps_give_what_single_steps_give(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other candidates, fewer candidates, other ranks and the second batch of prompts too, by the same recording."""
    plain = engine_for(family, 33)
    fixed = static(plain)
    forwards, sizes = count_calls(monkeypatch, Forward, "step"), count_calls(monkeypatch, CudaGraphRunner, "run")
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


def test_other_prompts_and_lengths_use_the_same_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = engine_for("llama", 64)
    fixed = static(plain)
    forwards = count_calls(monkeypatch, Forward, "step")
    answers(fixed, edits_of(plain, 0, 3))
    before = len(forwards)
    for prompts, length in ((PROMPTS[:3], 9), (PROMPTS[3:], 1), (PROMPTS[1:2], 22)):
        for edits in ([{}], edits_of(plain, 4, 2)):
            found, expected = (each.generate(prompts, edits, length, None, no_progress) for each in (fixed, plain))
            assert found == expected
    assert len(forwards) == before
    # What there is no room for is recorded anew.
    edits = edits_of(plain, 5, 4)
    assert fixed.generate(PROMPTS, edits, 60, None, no_progress) == plain.generate(
        PROMPTS, edits, 60, None, no_progress
    )
    assert len(forwards) > before


def test_rows_stay_where_that_is_wanted() -> None:
    plain = engine_for("llama", 64)
    fixed = static(plain, compact=False)
    edits = edits_of(plain, 1, 3)
    assert answers(fixed, edits) == answers(plain, edits)


@pytest.mark.parametrize("looks", [1, 2])
def test_candidates_that_are_given_up_are_the_same(looks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heretic.engine.cuda_graphs.decoder.AHEAD", {"cpu": looks})
    plain = engine_for("gemma2", 64)
    fixed = static(plain)
    for seed in range(3):
        edits = edits_of(plain, seed, 4)
        found, expected = (
            each.generate(PROMPTS, edits, LENGTH, decided, no_progress, [1, 2, None, 3]) for each in (fixed, plain)
        )
        assert found == expected
        assert any(response.cut for row in expected for response in row)


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
    runs = count_calls(monkeypatch, CudaGraphRunner, "run")
    assert fixed.decoding_rate(PROMPTS, 2, 10) > 0
    # What measuring used is given back.
    assert runs and not fixed.has_recorded


def test_nothing_is_made_on_a_device_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """What names no device would be on the CPU while the model is on a GPU: here it holds nothing at all."""
    plain = engine_for("llama", 64)
    fixed = static(plain)
    begin = CudaGraphRunner.begin

    def on_no_device(self: Any, *args: Any) -> bool:
        with torch.device("meta"):
            return begin(self, *args)

    monkeypatch.setattr(CudaGraphRunner, "begin", on_no_device)
    for seed in range(2):
        edits = edits_of(plain, seed, 3)
        assert answers(fixed, edits) == answers(plain, edits)
