"""Candidates share a forward if their rows can be distinguished, and a study records its steps once."""

from types import SimpleNamespace
from typing import Any

import pytest

from heretic.engine.cuda_graphs.runner import CudaGraphRunner
from heretic.engine.protocol import no_progress
from heretic.session import shared_forwards
from heretic.session.shared_forwards import experts_keep_cache, forward_rows, prepare_search
from tests.support.captured_engines import captured, count_calls, edits_of
from tests.support.engines import PROMPTS, any_engine, engine_for


@pytest.mark.parametrize(("family", "keeps"), [("jetmoe", True), ("mixtral", False), ("llama", False)])
def test_experts_that_attend_keep_a_cache(family: str, keeps: bool) -> None:
    assert experts_keep_cache(any_engine(family, 4)) == keeps


def test_a_search_on_an_accelerator_records_its_steps_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch of the response prefix and of the baseline has room for all candidates, for previews and for trials:
    nothing is released between them. A size is recorded when it is first used."""
    engine = captured(engine_for("llama", 4))
    monkeypatch.setattr(shared_forwards, "accelerator", lambda: "cpu")
    monkeypatch.setattr(shared_forwards, "measured_plan", lambda *_: None)
    monkeypatch.setattr(shared_forwards, "fitting_rows", lambda *_: 1000)
    read: list[object] = []
    monkeypatch.setattr(shared_forwards, "digest_ahead", read.append)
    prompts = SimpleNamespace(all=lambda: PROMPTS, bad_evaluation=SimpleNamespace(prompts=tuple(PROMPTS)))
    settings = SimpleNamespace(candidates_per_forward=3, max_response_length=20)
    session: Any = SimpleNamespace(prompts=prompts, settings=settings, checkpoint="files")
    prepare_search(engine, session)
    assert read == ["files"]
    released = count_calls(monkeypatch, CudaGraphRunner, "release")
    recorded = count_calls(monkeypatch, CudaGraphRunner, "_capture")
    engine.set_batch_size(forward_rows(engine, tuple(PROMPTS), 3, 20))
    assert engine.batch_size == 3 * len(PROMPTS)
    for n_prompts, edits, length in ((4, [{}], 6), (len(PROMPTS), [{}], 20), (2, edits_of(engine, 0, 3), 5)):
        engine.generate(PROMPTS[:n_prompts], edits, length, None, no_progress)
    engine.generate(PROMPTS, edits_of(engine, 1, 3), 20, None, no_progress)
    sizes = [size for size, _ in recorded]
    # An eighth of the rows, half of them for the baseline, a quarter for previews, and all.
    assert sizes == [4, 16, 8, 33]
    # That of the first batch, which replaces none.
    assert len(released) == 1
    # After a lack of memory, nothing is reserved.
    engine.free_buffers()
    assert engine.graphs is not None and engine.graphs.reserved is None and not engine.graphs.has_batch


def test_the_baseline_is_no_comparison_of_edits(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it runs, the first candidates are compared with plain forwards."""
    engine = captured(engine_for("llama", 64))
    compared = count_calls(monkeypatch, CudaGraphRunner, "_worst_difference")
    for _ in range(3):
        engine.generate(PROMPTS, [{}], 6, None, no_progress)
    assert len(compared) == 1
    for seed in range(3):
        engine.generate(PROMPTS, edits_of(engine, seed, 2)[:1], 6, None, no_progress)
    assert len(compared) == 2
