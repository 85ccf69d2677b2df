"""A prompt that would reach the model incomplete stops the run."""

import pytest

from heretic.errors import PromptError
from heretic.model.chat.checks import check_prompts
from heretic.model.chat.format import chat_format
from heretic.prompts.prompt import Prompt
from tests.support.planted import TEMPLATE, VOCABULARY, planted_tokenizer


def check(
    prompt: Prompt, template: str = TEMPLATE, room: int = 1, context: int | None = 20, vocabulary: int = 99
) -> None:
    tokenizer = planted_tokenizer()
    tokenizer.chat_template = template
    check_prompts(chat_format(tokenizer, "word1", "tiny"), [Prompt("word0"), prompt], room, context, vocabulary)


def test_prompts_that_fit_pass() -> None:
    check(Prompt("word2 word3"))
    check(Prompt("word2 " * 99), context=None)


def test_a_text_that_the_template_changes_is_shown() -> None:
    cutting = TEMPLATE.replace("m['content']", "m['content'].replace('word3', '')")
    check(Prompt("word2"), cutting)
    with pytest.raises(PromptError, match=r"text of prompt 2 \('word2 word3'"):
        check(Prompt("word2 word3"), cutting)


def test_a_prompt_that_is_too_long_is_shown() -> None:
    with pytest.raises(PromptError, match=r"prompt 2 .* has 24 tokens"):
        check(Prompt("word2 " * 20))


def test_a_token_without_an_embedding_is_shown() -> None:
    number = VOCABULARY.index("word5")
    check(Prompt("word5"), vocabulary=number + 1)
    with pytest.raises(PromptError, match=rf"prompt 2 .* has token {number} \('word5'\)"):
        check(Prompt("word5"), vocabulary=number)


@pytest.mark.parametrize(("made", "named"), [([], "makes none of it"), ([3, 4], "makes the same of all")])
def test_a_tokenizer_that_reads_nothing_is_named(made: list[int], named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of another class of tokenizer: transformers loads them without a warning."""
    monkeypatch.setattr("heretic.model.chat.format.ChatFormat.encode", lambda self, text: made)
    with pytest.raises(PromptError, match=named):
        check(Prompt("word2"))
