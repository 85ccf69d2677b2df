"""The glossary names modules and keys that exist, and the words that it rules out name none."""

import re

import pytest

from heretic.config import Settings
from tests.support.pages import INLINE, ROOT

SOURCE = ROOT / "src" / "heretic"
PAGE = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
WORDS, _, UNUSED = PAGE.partition("## Words that are not used")


def rows(text: str) -> list[list[str]]:
    """The cells of all table rows but headers and rules."""
    lines = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [row for row in cells if row[0].strip() not in {"word", "not"}]


@pytest.mark.parametrize("row", rows(WORDS), ids=lambda row: row[0])
def test_a_word_is_in_the_code(row: list[str]) -> None:
    [name] = INLINE.findall(row[2])
    assert name in Settings.model_fields or (SOURCE / name).exists()


def test_there_are_words() -> None:
    assert len(rows(WORDS)) > 30
    assert len(rows(UNUSED)) > 10


def unused_words() -> list[str]:
    return [word for row in rows(UNUSED) for word in INLINE.findall(row[0])]


def named_so(word: str, name: str) -> bool:
    """Whether a name is the word, or has it as one of its parts."""
    return re.search(rf"(?<![a-z]){word}(?![a-z])", name) is not None


@pytest.mark.parametrize("word", unused_words())
def test_a_word_that_is_not_used_names_no_module_and_no_key(word: str) -> None:
    modules = {path.stem for path in SOURCE.rglob("*.py")} | {path.name for path in SOURCE.rglob("*") if path.is_dir()}
    assert {name for name in modules | set(Settings.model_fields) if named_so(word, name)} - ALLOWED == set()


# Keys that hold one of these words in another sense.
ALLOWED = {"n_workers"}


def test_a_wrong_name_is_found() -> None:
    assert named_so("later", "export_later") and named_so("later", "later")
    assert not named_so("later", "lateral")
