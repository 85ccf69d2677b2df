"""From a row of a prompt file or data set to a prompt."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import PromptError

PLACE = re.compile(r"\{([^{}]+)\}")
USERS = frozenset({"user", "human", "prompter"})
ALPACA = frozenset({"instruction", "input", "output"})


def names_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns of all rows, in order."""
    return list(dict.fromkeys(name for row in rows for name in row))


def columns_of(column: str, names: Sequence[str]) -> list[str]:
    """The columns that `column` asks for: one, or those in the braces of a pattern such as "{context} {behavior}"."""
    return [column] if column in names or not PLACE.search(column) else PLACE.findall(column)


def check_columns(column: str, names: Sequence[str], where: str, doubled: frozenset[str] = frozenset()) -> None:
    """Raises:
    PromptError: a column that is asked for is missing, or there are two of its name.
    """
    for wanted in columns_of(column, names):
        if wanted not in names:
            raise PromptError(
                f"Expected a column {wanted!r} in {where}, found {', '.join(map(repr, names))}. Name the one that "
                "holds the prompts with `column`, or several in a pattern such as {context} {question}."
            )
        if wanted in doubled:
            raise PromptError(f"Expected one column {wanted!r} in {where}, found two. Rename one of them.")


def text_of(row: Mapping[str, Any], column: str, where: str) -> tuple[str, str | None]:
    """The row's text, and the system prompt of its conversation if it is one; a row without text gives "".

    Raises:
        PromptError: the column holds something else.
    """
    if column not in row and PLACE.search(column):
        joined = PLACE.sub(lambda place: _text(row.get(place[1]), place[1], where)[0].strip(), column)
        return joined.strip(), None
    text, system = _text(row.get(column), column, where)
    extra = row.get("input")
    if column == "instruction" and set(row) >= ALPACA and isinstance(extra, str) and extra.strip():
        text = f"{text}\n{extra}"
    return text, system


def _text(value: Any, column: str, where: str) -> tuple[str, str | None]:
    if isinstance(value, str):
        return value, None
    if value is None:
        return "", None
    if isinstance(value, list) and value and all(isinstance(turn, Mapping) for turn in value):
        return _first_question(value)
    raise PromptError(
        f"Expected texts in column {column!r} of {where}, got {type(value).__name__}: {value!r:.80}. "
        "Name a column of texts or conversations."
    )


def _first_question(turns: Sequence[Mapping[str, Any]]) -> tuple[str, str | None]:
    """What the user says first, and the system prompt before it."""
    system = None
    for turn in turns:
        role = str(turn.get("role", turn.get("from", ""))).lower()
        said = _said(turn.get("content", turn.get("value")))
        if role in USERS:
            return said, system
        if role in ("system", "developer"):
            system = said or None
    return "", system


def _said(content: Any) -> str:
    """A message's text; its content may be a list of parts."""
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping)).strip()
    return content if isinstance(content, str) else ""
