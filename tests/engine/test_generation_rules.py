"""Responses under a generation configuration are those of transformers' own generation, whatever the batches."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from heretic.engine.chat_stream import ResponseStream, Turn
from heretic.engine.decoding import end_tokens
from heretic.engine.generation_rules import GenerationRules
from heretic.engine.local import LocalEngine
from heretic.engine.options import DEFAULT
from heretic.engine.protocol import no_progress
from heretic.engine.sampling import GREEDY
from tests.support.engines import PROMPTS, engine_for, some_edit
from tests.support.families import tiny
from tests.support.planted import planted_tokenizer

LENGTH = 10
ENDS = [1, 23, 24, 71, 88]
"""Tokens that the random model is likely to choose: some responses end before their length."""
RULES: dict[str, dict[str, Any]] = {
    "suppressed": {"suppress_tokens": [*range(5, 40)]},
    "suppressed at the beginning": {"begin_suppress_tokens": [*range(2, 90)]},
    "bad words": {"bad_words_ids": [[each] for each in range(40, 90)] + [[5, 6], [7, 8, 9]]},
    "penalty": {"repetition_penalty": 1.7},
    "n-grams": {"no_repeat_ngram_size": 1},
    "shortest": {"min_new_tokens": 6},
    "shortest with the prompt": {"min_length": 16},
    "decay": {"exponential_decay_length_penalty": [2, 1.9]},
    "bias": {"sequence_bias": [[[7], 8.0], [[9, 11], 5.0]]},
    "several": {"repetition_penalty": 1.3, "suppress_tokens": [7, 8], "min_new_tokens": 3, "no_repeat_ngram_size": 3},
}


def configured(values: dict[str, Any], batch_size: int = 4) -> LocalEngine:
    engine = engine_for("llama", batch_size)
    model: Any = engine.loaded.model
    model.generation_config = GenerationConfig(**values, eos_token_id=ENDS, pad_token_id=0)
    return engine


def ruled(values: dict[str, Any], batch_size: int = 4) -> LocalEngine:
    plain = configured(values, batch_size)
    model = plain.loaded.model
    rules = GenerationRules.of(model, end_tokens(model, plain.chat.tokenizer))
    assert rules is not None
    return LocalEngine(plain.loaded, plain.chat, batch_size, replace(DEFAULT, rules=rules))


def of_transformers(engine: LocalEngine, tokens: list[int]) -> list[int]:
    """The response to one prompt, without padding; its end left out."""
    ids = torch.tensor([tokens])
    model: Any = engine.loaded.model
    made = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=LENGTH, do_sample=False)
    response: list[int] = made[0, ids.shape[1] :].tolist()
    return response[: next((place for place, token in enumerate(response) if token in ENDS), LENGTH)]


@pytest.mark.parametrize("name", RULES)
def test_responses_are_those_of_transformers(name: str) -> None:
    engine, plain = ruled(RULES[name]), configured({})
    [found] = engine.generate(PROMPTS, [{}], LENGTH, None, no_progress)
    assert [list(each.tokens) for each in found] == [
        of_transformers(engine, engine.chat.tokens(prompt)) for prompt in PROMPTS
    ]
    [without] = plain.generate(PROMPTS, [{}], LENGTH, None, no_progress)
    assert [each.tokens for each in without] != [each.tokens for each in found], "the rule changes something"


def test_each_row_counts_alone() -> None:
    engine = ruled(RULES["several"], batch_size=64)
    edits = [{}, some_edit(engine, 1)]
    together = engine.generate(PROMPTS, edits, LENGTH, None, no_progress)
    alone = ruled(RULES["several"], batch_size=1)
    assert together == [alone.generate(PROMPTS, [edit], LENGTH, None, no_progress)[0] for edit in edits]


def test_the_response_prefix_is_part_of_the_response() -> None:
    """What is suppressed at the beginning may follow the prefix, and the prefix counts towards the shortest length."""
    unnamed = [*range(len(planted_tokenizer()), 96)]
    engine = ruled({"begin_suppress_tokens": [*range(20, 90)], "suppress_tokens": unnamed, "min_new_tokens": 4})
    tokens = engine.chat.tokens(PROMPTS[0])
    whole = of_transformers(engine, tokens)
    first = whole[:2]
    engine.set_prefix("".join(f" {word}" for word in engine.chat.tokenizer.convert_ids_to_tokens(first)))
    assert engine.chat.n_prefix == 2
    assert engine.chat.tokens(PROMPTS[0]) == [*tokens, *first]
    [[found]] = engine.generate(PROMPTS[:1], [{}], LENGTH - 2, None, no_progress)
    assert [*first, *found.tokens] == whole


def test_a_chat_follows_them_too() -> None:
    engine = ruled(RULES["several"])
    stream = ResponseStream(engine, {}, torch.Generator())
    said = "".join(stream.generate([Turn("user", PROMPTS[0].text)], None, GREEDY, LENGTH))
    [[expected]] = engine.generate(PROMPTS[:1], [{}], LENGTH, None, no_progress)
    assert said == expected.text


@pytest.mark.parametrize(
    "values", [{}, {"suppress_tokens": []}, {"repetition_penalty": 1.0}, {"temperature": 0.6}, {"min_length": 0}]
)
def test_plain_configurations_have_none(values: dict[str, Any]) -> None:
    model: Any = tiny("llama")
    model.generation_config = GenerationConfig(**values)
    assert GenerationRules.of(model, [1]) is None
