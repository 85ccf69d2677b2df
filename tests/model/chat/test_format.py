"""Tokens back to text."""

from heretic.model.chat.format import chat_format
from tests.support.planted import planted_tokenizer


def test_no_rows_are_no_texts() -> None:
    chat = chat_format(planted_tokenizer(), None, "tiny")
    assert chat.decode([]) == []
    assert len(chat.decode([[5]])) == 1
