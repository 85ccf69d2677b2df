"""Rows of every supported form become texts."""

import pytest

from heretic.errors import PromptError
from heretic.prompts.rows import check_columns, columns_of, text_of


def test_a_column_of_the_patterns_very_name_is_taken() -> None:
    row = {"{a}": "this", "a": "that"}
    assert columns_of("{a}", list(row)) == ["{a}"]
    assert text_of(row, "{a}", "here") == ("this", None)
    assert text_of({"a": "that"}, "{a}", "here") == ("that", None)


@pytest.mark.parametrize("value", [3, ["a", "b"], {"a": 1}, True])
def test_what_is_no_text_is_refused(value: object) -> None:
    with pytest.raises(PromptError, match="Expected texts in column 'text' of here"):
        text_of({"text": value}, "text", "here")


def test_a_conversation_without_a_user_gives_no_text() -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "assistant", "content": "Sure."}]
    assert text_of({"messages": turns}, "messages", "here")[0] == ""


def test_a_doubled_column_is_refused_only_if_it_is_read() -> None:
    check_columns("text", ["text", "id"], "here", frozenset({"id"}))
    with pytest.raises(PromptError, match="found two"):
        check_columns("id", ["text", "id"], "here", frozenset({"id"}))
