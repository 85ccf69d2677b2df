"""The digest of a study's inputs changes with all that decides what the model reads."""

from collections.abc import Callable
from typing import Any

import pytest

from heretic.engine.local import LocalEngine
from heretic.prompts.prompt import PromptSet
from heretic.session.prompts import RunPrompts
from heretic.session.records import inputs_digest
from tests.support.engines import PROMPTS, engine_for
from tests.support.planted import TEMPLATE

EACH = PromptSet("prompts.txt", tuple(PROMPTS))
PROMPT_SETS = RunPrompts(EACH, EACH, EACH, EACH, {})


def digest(change: Callable[[Any], None] | None = None, system_prompt: str | None = None) -> str:
    engine: LocalEngine = engine_for("llama", 8, system_prompt=system_prompt)
    if change is not None:
        change(engine)
    return inputs_digest(engine, PROMPT_SETS)


def another_template(engine: Any) -> None:
    engine.chat.tokenizer.chat_template = TEMPLATE.replace("m['content']", "'word7 ' + m['content']")


def another_tokenizer(engine: Any) -> None:
    engine.chat.tokenizer.add_tokens(["word3"], special_tokens=True)
    engine.chat.tokenizer.add_tokens(["word1 word2"])
    engine.chat.tokenizer.add_tokens(["trigger"])


def another_end(engine: Any) -> None:
    engine.loaded.model.generation_config.eos_token_id = [1, 9]


def a_prefix(engine: Any) -> None:
    engine.set_prefix("sure")


@pytest.mark.parametrize("change", [another_template, another_tokenizer, another_end])
def test_another_form_of_the_prompts_is_another_digest(change: Callable[[Any], None]) -> None:
    assert digest(change) != digest()


def test_the_same_form_is_the_same_digest() -> None:
    assert digest() == digest() == digest(a_prefix)
    assert digest(system_prompt="word4") != digest()
