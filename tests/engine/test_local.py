"""The engine gives the results of transformers' own generation, whatever the batches."""

from itertools import chain
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from heretic.engine.decoding import end_tokens
from heretic.engine.kv_cache import make_cache
from heretic.engine.local import LocalEngine
from heretic.engine.options import EngineOptions
from heretic.engine.prefill import ForwardPlan
from heretic.engine.protocol import no_progress
from heretic.model.chat.format import chat_format
from heretic.model.loading.checkpoint import Checkpoint
from heretic.model.loading.load import LoadedModel
from heretic.model.sites.find import find_sites
from heretic.prompts.prompt import Prompt
from tests.support.engines import FAMILIES, PROMPTS, engine_for, some_edit
from tests.support.families import tiny
from tests.support.planted import planted_tokenizer


@pytest.mark.parametrize("family", FAMILIES)
def test_responses_are_those_of_transformers(family: str) -> None:
    """One row at a time, no padding, transformers' own generate."""
    engine = engine_for(family, 4)
    texts = [r.text for r in engine.generate(PROMPTS, [{}], 12, None, no_progress)[0]]
    assert len(set(texts)) > 3
    for prompt, text in zip(PROMPTS, texts, strict=True):
        ids = torch.tensor([engine.chat.tokens(prompt)])
        generated = engine.loaded.model.generate(  # type: ignore[operator]
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=12,
            do_sample=False,
            eos_token_id=end_tokens(engine.loaded.model, engine.chat.tokenizer),
            pad_token_id=0,
        )
        assert engine.chat.decode([generated[0, ids.shape[1] :].tolist()]) == [text]


@pytest.mark.parametrize("family", FAMILIES)
def test_results_do_not_depend_on_batches(family: str) -> None:
    one, all_together = engine_for(family, 1), engine_for(family, 64)
    expected = one.generate(PROMPTS, [{}], 8, None, no_progress)
    assert all_together.generate(PROMPTS, [{}], 8, None, no_progress) == expected
    first = one.first_token_log_probabilities(PROMPTS, [{}], no_progress)
    assert_close(all_together.first_token_log_probabilities(PROMPTS, [{}], no_progress), first, atol=1e-4, rtol=1e-4)
    residuals = [torch.empty(11, 4, 32) for _ in range(2)]
    for engine, held in zip((one, all_together), residuals, strict=True):
        for indices, batch in engine.residuals(PROMPTS, no_progress):
            held[indices] = batch
    assert_close(residuals[0], residuals[1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_candidates_of_one_forward_are_independent(family: str) -> None:
    engine = engine_for(family, 12)
    edits = [some_edit(engine, 1), {}, some_edit(engine, 2)]
    together = engine.generate(PROMPTS, edits, 8, None, no_progress)
    alone = [engine.generate(PROMPTS, [edit], 8, None, no_progress)[0] for edit in edits]
    assert together == alone
    assert together[0] != together[1] != together[2]
    probabilities = engine.first_token_log_probabilities(PROMPTS, edits, no_progress)
    for edit, rows in zip(edits, probabilities, strict=True):
        single = engine.first_token_log_probabilities(PROMPTS, [edit], no_progress)[0]
        assert_close(rows, single, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_that_leave_the_batch_do_not_change_the_others(family: str) -> None:
    def is_settled(text: str) -> bool:
        return "word1" in text

    edits = [{}, some_edit(engine_for(family, 1), 3)]
    plain = engine_for(family, 64, EngineOptions(compact_batch=False)).generate(PROMPTS, edits, 20, None, no_progress)
    left = engine_for(family, 64).generate(PROMPTS, edits, 20, is_settled, no_progress)
    flags = [is_settled(response.text) for row in plain for response in row]
    assert any(flags) and not all(flags)
    for whole, early in zip(chain(*plain), chain(*left), strict=True):
        assert whole.text.startswith(early.text)
        assert is_settled(whole.text) == is_settled(early.text)
        if not is_settled(whole.text):
            assert whole == early


def test_residuals_are_those_of_a_single_prompt() -> None:
    engine = engine_for("llama", 64)
    indices, batch = next(engine.residuals(PROMPTS, no_progress))
    states = engine.loaded.model(
        input_ids=torch.tensor([engine.chat.tokens(PROMPTS[indices[0]])]), output_hidden_states=True
    ).hidden_states
    # transformers' last entry is the output of the final norm, which is another space.
    for index in range(3):
        assert_close(batch[0, index], states[index][0, -1].detach(), atol=1e-4, rtol=1e-4)
    assert (batch[0, 3] - states[3][0, -1]).norm() > 0.1
    normed = engine.loaded.model.model.norm(batch[0, 3])  # type: ignore[union-attr, operator]
    assert_close(normed, states[3][0, -1], atol=1e-4, rtol=1e-4)


def test_the_models_generation_settings_are_ignored_without_rules() -> None:
    engine = engine_for("llama", 8)
    before = engine.generate(PROMPTS, [{}], 12, None, no_progress)
    engine.loaded.model.generation_config.repetition_penalty = 5.0  # type: ignore[union-attr]
    assert engine.generate(PROMPTS, [{}], 12, None, no_progress) == before


@pytest.mark.parametrize("family", FAMILIES)
def test_a_shared_prefix_changes_no_result(family: str) -> None:
    """Template and system prompt run once for each candidate; slices of similar length are joined after it."""
    prompt = "word1 word2 word3 word4 word5 word6"
    shared = engine_for(family, 64, system_prompt=prompt)
    plain = engine_for(family, 64, EngineOptions(share_prefix=False), system_prompt=prompt)
    many = [Prompt(" ".join(["word7"] * (1 + index % 13))) for index in range(26)] + PROMPTS
    edits = [{}, some_edit(shared, 4)]
    tokens = [shared.chat.tokens(prompt) for prompt in many]
    order = sorted(range(len(many)), key=lambda index: len(tokens[index]))
    plan = ForwardPlan((0,), lambda _: None, n_reserved=8)
    with torch.inference_mode():
        assert len(list(shared.prefill.slices(tokens, order, plan))) > 2
        for engine in (plain, shared):
            assert next(engine.prefill.slices(tokens, order, plan)).n_shared == (8 if engine is shared else 0)
    assert shared.generate(many, edits, 10, None, no_progress) == plain.generate(many, edits, 10, None, no_progress)
    expected = plain.first_token_log_probabilities(many, edits, no_progress)
    found = shared.first_token_log_probabilities(many, edits, no_progress)
    assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_short_sliding_window_uses_the_cache_of_transformers() -> None:
    """Padding would make positions leave the window too early."""
    tokenizer = planted_tokenizer()
    model = tiny("gemma3_text", sliding_window=8, eos_token_id=1, tie_word_embeddings=False)
    loaded = LoadedModel(Checkpoint("tiny", Path()), model, tokenizer, tuple(find_sites(model)))
    engine = LocalEngine(loaded, chat_format(tokenizer, "word1 word2 word3 word4 word5", "tiny"), 1)
    tokens = [engine.chat.tokens(prompt) for prompt in PROMPTS[:1]]
    assert next(engine.prefill.slices(tokens, [0], ForwardPlan((0,), lambda _: None))).n_shared == 0
    texts = [r.text for r in engine.generate(PROMPTS, [{}], 8, None, no_progress)[0]]
    for prompt, text in zip(PROMPTS, texts, strict=True):
        ids = torch.tensor([engine.chat.tokens(prompt)])
        generated = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False, pad_token_id=0
        )
        assert engine.chat.decode([generated[0, ids.shape[1] :].tolist()]) == [text]


@pytest.mark.parametrize("family", ["llama", "gemma", "qwen3", "gpt2", "phi3"])
def test_fast_attention_differs_by_rounding_alone(family: str) -> None:
    """In bfloat16 both paths round: compared with fp32, the fast one is off by less than twice as much as the other.

    Long rows, a padded prefix and rows that leave exercise the transposed keys.
    """
    exact = engine_for(family, 64)
    engines = [
        engine_for(family, 64, EngineOptions(fast_attention=fast), dtype=torch.bfloat16) for fast in (False, True)
    ]
    expected = decoded_log_probabilities(exact)
    plain, fast = (float((decoded_log_probabilities(engine) - expected).abs().mean()) for engine in engines)
    assert any(layer.transposed for layer in make_cache(engines[1].loaded.model.config, 8).layers)
    assert fast < 2 * plain
    assert fast > 0


def decoded_log_probabilities(engine: LocalEngine) -> torch.Tensor:
    """Log-probabilities after each of some given tokens; half of the rows leave halfway."""
    tokens = [engine.chat.tokens(prompt) for prompt in PROMPTS]
    plan = ForwardPlan((0,), lambda _: None, n_reserved=90)
    seen = []
    with torch.inference_mode():
        [start] = engine.prefill.batches(tokens, 64, plan)
        mask, cache = start.mask, start.cache
        for step in range(80):
            if step == 40:
                half = torch.arange(0, len(mask), 2)
                cache.batch_select_indices(half)
                mask = mask[half]
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            logits = engine.forward(torch.full((len(mask), 1), 3 + step % 60), mask, cache)
            seen.append(logits.float().log_softmax(-1)[: len(PROMPTS) // 2].flatten())
    return torch.cat(seen)
