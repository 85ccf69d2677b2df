"""Teacher forcing gives the model's log-probabilities at each position, whatever the batches."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from heretic.engine.divergence import kl_divergence
from heretic.engine.protocol import no_progress
from heretic.evaluation.heldout.divergences import answer_divergences, first_token_divergences
from tests.support.engines import PROMPTS, engine_for, some_edit

FAMILIES = ["llama", "gemma2", "gpt2", "opt"]
ANSWERS = [[5 + (i * j) % 9 for j in range(i % 5)] for i in range(len(PROMPTS))]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_position_is_that_of_transformers(family: str) -> None:
    engine = engine_for(family, 6)
    seen = dict(engine.answer_log_probabilities(PROMPTS, ANSWERS, [{}], no_progress))
    assert sorted(seen) == list(range(len(PROMPTS)))
    for index, (prompt, answer) in enumerate(zip(PROMPTS, ANSWERS, strict=True)):
        ids = torch.tensor([engine.chat.tokens(prompt) + answer])
        with torch.no_grad():
            logits = engine.loaded.model(input_ids=ids).logits[0, -len(answer) - 1 :]
        assert_close(seen[index][0], logits.float().log_softmax(-1), atol=1e-4, rtol=1e-4)


def test_candidates_of_one_forward_are_independent() -> None:
    engine = engine_for("llama", 8)
    edits = [{}, some_edit(engine, 1), some_edit(engine, 2)]
    together = dict(engine.answer_log_probabilities(PROMPTS, ANSWERS, edits, no_progress))
    for number, edit in enumerate(edits):
        alone = dict(engine.answer_log_probabilities(PROMPTS, ANSWERS, [edit], no_progress))
        for index in alone:
            assert_close(together[index][number], alone[index][0], atol=1e-4, rtol=1e-4)


def test_divergence_along_answers() -> None:
    engine = engine_for("llama", 8)
    answers = engine.generate(PROMPTS, [{}], 6, None, no_progress)[0]
    # As if it had ended there: its end of text counts as a position more.
    answers[0] = replace(answers[0], complete=True)
    edit = some_edit(engine, 1)
    itself, other = answer_divergences(engine, PROMPTS, answers, [{}, edit])
    assert_close(itself, torch.zeros(len(PROMPTS), dtype=torch.float64), atol=1e-6, rtol=0)
    assert (other > 1e-3).all()
    # The first position of the answer is the first token, which the KL divergence of the search uses; an answer of one
    # token has no other.
    baseline = engine.first_token_log_probabilities(PROMPTS, [{}], no_progress)[0]
    first = first_token_divergences(engine, PROMPTS, baseline, [edit])[0]
    candidate = engine.first_token_log_probabilities(PROMPTS, [edit], no_progress)[0]
    assert_close(first, kl_divergence(baseline, candidate).double())
    shortened = [type(a)(a.text, 1, False, tokens=a.tokens[:1]) for a in answers]
    assert_close(answer_divergences(engine, PROMPTS, shortened, [edit])[0], first, atol=1e-5, rtol=1e-3)


def test_the_end_of_an_answer_is_a_position_of_its_own() -> None:
    engine = engine_for("llama", 8)
    edit = some_edit(engine, 1)
    answer = replace(engine.generate(PROMPTS[:1], [{}], 2, None, no_progress)[0][0], complete=True)
    ids = torch.tensor([engine.chat.tokens(PROMPTS[0]) + list(answer.tokens)])
    [(_, rows)] = engine.answer_log_probabilities(PROMPTS[:1], [answer.tokens], [{}, edit], no_progress)
    assert rows.shape[1] == 3
    assert ids.shape[1] > 3
    expected = kl_divergence(rows[0], rows[1]).double().mean()
    assert_close(answer_divergences(engine, PROMPTS[:1], [answer], [edit])[0, 0], expected)
