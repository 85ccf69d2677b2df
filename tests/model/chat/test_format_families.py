"""Templates in the shapes of families: what search, chat, benchmark and export have the model read."""

import re
from pathlib import Path
from typing import Any

import pytest

from heretic.config import Settings
from heretic.config.defaults import CHAIN_OF_THOUGHT_SKIPS
from heretic.engine.chat_stream import ResponseStream, Turn
from heretic.evaluation.prefix import close_opened
from heretic.model.chat.checks import check_prompts
from heretic.model.chat.format import ChatFormat, chat_format
from heretic.model.loading.chat_templates import settle_chat_template
from heretic.model.loading.checkpoint import Checkpoint
from heretic.prompts.prompt import Prompt
from heretic.session.response_prefix import settle_thinking
from tests.support.chat_templates import SHAPES, Shape
from tests.support.planted import planted_tokenizer
from tests.support.recorders import Recorder

SYSTEM, USER = "word1 word2", "word3 word4"
DATE = "2026-01-31"


def settled(shape: Shape, system: str | None, tokenizer: Any = None) -> ChatFormat:
    """The format as a run prepares it, before anything is generated."""
    if tokenizer is None:
        tokenizer = planted_tokenizer()
        tokenizer.chat_template = shape.template
    chat = chat_format(tokenizer, system, "tiny", {}, DATE)
    chat, closing = settle_thinking(chat, Settings(), Recorder())
    prompt = chat.render(Prompt(USER))
    return chat.with_prefix(closing or close_opened(prompt, CHAIN_OF_THOUGHT_SKIPS))


def expected(text: str) -> str:
    """The statement with the texts in the place of S and U."""
    return re.sub(r"\bU\b", USER, re.sub(r"\bS\b", SYSTEM, text))


@pytest.mark.parametrize("name", SHAPES)
def test_a_search_reads_what_is_stated(name: str) -> None:
    shape = SHAPES[name]
    both, alone = settled(shape, SYSTEM), settled(shape, None)
    assert both.render(Prompt(USER)) == expected(shape.both)
    assert alone.render(Prompt(USER)) == expected(shape.alone)
    assert both.template.arguments == shape.arguments
    assert both.response_prefix == shape.closing
    assert alone.render(Prompt(USER, SYSTEM)) == expected(shape.both), "a set's own system prompt"
    check_prompts(both, [Prompt(USER)], 1, None)


@pytest.mark.parametrize("name", SHAPES)
def test_a_chat_reads_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The planted tokenizer reads words between white space; letters show the whole text.
    monkeypatch.setattr(ChatFormat, "encode", lambda _, text: [ord(letter) for letter in text])
    chat = settled(SHAPES[name], SYSTEM)
    stream = object.__new__(ResponseStream)
    stream._chat = chat
    assert stream._tokens([Turn("user", USER)], None) == chat.tokens(Prompt(USER))
    alone = settled(SHAPES[name], None)
    stream._chat = alone
    assert stream._tokens([Turn("user", USER)], SYSTEM) == chat.tokens(Prompt(USER))
    later = [Turn("user", USER), Turn("assistant", "sure here"), Turn("user", "word5")]
    stream._chat = chat
    text = "".join(map(chr, stream._tokens(later, None)))
    assert text.index("word1") < text.index("word3") < text.rindex("word5")


@pytest.mark.parametrize("name", SHAPES)
def test_a_benchmark_reads_the_same(name: str) -> None:
    from heretic.benchmark.harness import WatchedModel

    chat = settled(SHAPES[name], SYSTEM)
    model = object.__new__(WatchedModel)
    model._chat = chat
    history = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": USER}]
    assert model.apply_chat_template(history) == chat.render(Prompt(USER))


@pytest.mark.parametrize("name", SHAPES)
def test_an_export_reads_the_same(name: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    chat = settled(SHAPES[name], SYSTEM)
    chat.tokenizer.save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    settle_chat_template(tokenizer, Checkpoint("tiny", tmp_path))
    again = chat_format(tokenizer, SYSTEM, "tiny", chat.template.arguments, chat.template.date)
    assert again.with_prefix(chat.response_prefix).render(Prompt(USER)) == chat.render(Prompt(USER))


def test_the_page_has_every_shape() -> None:
    page = (Path(__file__).parents[3] / "docs" / "templates.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ")][2:]
    notes = {name: shape.note[0].upper() + shape.note[1:] for name, shape in SHAPES.items()}
    assert rows == [f"| {name} | {note} |" for name, note in notes.items()]
    assert len(rows) >= 40
