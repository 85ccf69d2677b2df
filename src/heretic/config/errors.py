"""Problems of a configuration, as one paragraph."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from .origins import Layer, place_of
from .parsing import choices, table_of
from .settings import Settings

ADVICE = "Correct it, or leave it out to use the default; heretic config describes every key."

ADVICE_ON_SEVERAL = "Correct them, or leave them out to use the defaults; heretic config describes every key."

# Beginnings of pydantic's messages, and their replacements for somebody who writes TOML.
_WORDS = {
    "a valid boolean": "true or false",
    "a valid dictionary": "a table",
    "a valid integer": "a whole number",
    "a valid list": "a list",
    "a valid number": "a number",
    "a valid string": "text",
    "a valid tuple": "a list",
    "greater than": "a number greater than",
    "less than": "a number less than",
    "List should": "a list that should",
    "String should": "text that should",
}


NEAR = 0.7
"""Similarity of a misspelt key: load_in_4bit and save_directory resemble keys by 0.5 that mean something else."""


def nearest(word: str, known: Iterable[str], cutoff: float = 0.5) -> str | None:
    """The known word that is most similar to `word`; None if none reaches the similarity `cutoff` (0 to 1)."""
    by_plain = {name.lower().replace("-", "_"): name for name in known}
    found = difflib.get_close_matches(word.lower().replace("-", "_"), by_plain, n=1, cutoff=cutoff)
    return by_plain[found[0]] if found else None


def unknown_key(key: str, place: str, known: Iterable[str], within: str = "") -> str:
    """The problem of an unknown key; `within` is the path of the table that holds it."""
    problem = f"{within}{key} ({place}) is not a known key"
    if within and key in Settings.model_fields:
        # TOML's tables go on to the next heading: three public configurations have a key below one by mistake.
        return f"{problem}: {key} belongs to no table, so write it above the first [table]"
    name = nearest(key, known, NEAR)
    return problem + (f": did you mean {within}{name}?" if name else "")


def bad_values(error: ValidationError, layers: Sequence[Layer], merged: dict[str, Any]) -> list[str]:
    """The problems that pydantic found, one per key: expected value, given value and place."""
    by_key: dict[tuple[str | int, ...], list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        by_key.setdefault(_key_path(detail, merged), []).append(detail)
    return [_bad_value(path, details, layers) for path, details in by_key.items()]


def paragraph(problems: Sequence[str]) -> str:
    """All problems as one paragraph, with advice."""
    if len(problems) == 1:
        return f"The configuration can't be used: {_ended(problems[0])} {ADVICE}"
    listed = " ".join(f"({number}) {_ended(problem)}" for number, problem in enumerate(problems, start=1))
    return f"The configuration can't be used, for {len(problems)} reasons: {listed} {ADVICE_ON_SEVERAL}"


def _bad_value(path: tuple[str | int, ...], details: Sequence[ErrorDetails], layers: Sequence[Layer]) -> str:
    place = place_of(layers, path)
    name = _dotted(path)
    kind = details[0]["type"]
    table = table_of(Settings.model_fields[str(path[0])].annotation)
    if kind == "extra_forbidden" and table is not None:
        return unknown_key(str(path[-1]), place, table.model_fields, within=f"{_dotted(path[:-1])}.")
    if kind == "missing":
        return f"{name} ({place}) is missing: the table needs a value for it"
    expected = " or ".join(dict.fromkeys(_expectation(detail) for detail in details))
    value = details[0]["input"]
    words = choices(Settings.model_fields[str(path[0])].annotation)
    meant = nearest(value, words, 0.6) if isinstance(value, str) else None
    suggestion = f": did you mean {meant}?" if meant else ""
    return f"{name} ({place}): expected {expected}, got {shortened(value)}{suggestion}"


def _expectation(detail: ErrorDetails) -> str:
    """The value that pydantic expected, in words."""
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input should be ").removeprefix("expected ")
    for beginning, words in _WORDS.items():
        if message.startswith(beginning):
            return words + message.removeprefix(beginning).partition(", ")[0]
    return message


def _key_path(detail: ErrorDetails, merged: dict[str, Any]) -> tuple[str | int, ...]:
    """The keys in pydantic's location, which also holds names of union members."""
    path: list[str | int] = []
    value: Any = merged
    for step in detail["loc"]:
        if _has(value, step):
            value = value[step]
            path.append(step)
        elif detail["type"] == "missing" and step == detail["loc"][-1]:
            path.append(step)
    return tuple(path)


def _has(value: Any, step: str | int) -> bool:
    if isinstance(value, list | tuple):
        return isinstance(step, int) and step < len(value)
    return isinstance(value, dict) and step in value


def _dotted(path: Sequence[str | int]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "?")) else f"{sentence}."


def shortened(value: object) -> str:
    """The value as Python writes it, cut to 60 characters."""
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
