"""What a generation configuration forbids or forces is known, since decoding does not apply it."""

from typing import Any

import pytest
from transformers import GenerationConfig

from heretic.engine.decoding import rules_left_out
from tests.support.families import tiny

RULES = {
    "suppress_tokens": [5, 6],
    "begin_suppress_tokens": [7],
    "bad_words_ids": [[3, 4]],
    "forced_bos_token_id": 9,
    "repetition_penalty": 1.3,
    "no_repeat_ngram_size": 3,
    "min_new_tokens": 4,
}


@pytest.mark.parametrize("key", RULES)
def test_a_rule_is_found(key: str) -> None:
    model = tiny("llama")
    model.generation_config = GenerationConfig(**{key: RULES[key]})
    assert rules_left_out(model) == {key: RULES[key]}


@pytest.mark.parametrize("configured", [{}, {"suppress_tokens": []}, {"repetition_penalty": 1.0}, {"temperature": 0.6}])
def test_plain_configurations_have_none(configured: dict[str, Any]) -> None:
    model = tiny("llama")
    model.generation_config = GenerationConfig(**configured)
    assert rules_left_out(model) == {}
