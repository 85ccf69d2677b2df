"""Line breaks between words, whatever the pieces in which the text arrives."""

import textwrap

import pytest

from heretic.ui.word_wrap import WordWrap

TEXT = "It was a quiet morning, and nobody in the whole village had seen the neighbourhood's cats."


def wrapped(text: str, width: int, size: int = 1) -> str:
    wrap = WordWrap(lambda: width)
    return "".join(wrap.feed(text[i : i + size]) for i in range(0, len(text), size)) + wrap.feed("\n")


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize("width", [16, 25, 80])
def test_lines_are_those_of_textwrap(width: int, size: int) -> None:
    assert wrapped(TEXT, width, size) == textwrap.fill(TEXT, width) + "\n"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a\n\n  b  c", ["a", "", "  b  c"]),
        ("1234567890", ["1234567890"]),
        ("12345 67890", ["12345", "67890"]),
        # Longer than a line: the terminal breaks it, and the next word counts from there.
        ("ab 12345678901234 cd ef", ["ab 12345678901234 cd", "ef"]),
        # Wide characters have no spaces between them and take two columns.
        ("ab 日本語日本語", ["ab 日本語", "日本語"]),
        ("a\tbc\td", ["a\tbc", "d"]),
    ],
)
def test_the_widths_of_words_and_spaces_are_columns(text: str, lines: list[str]) -> None:
    assert wrapped(text, 10).splitlines() == lines


def test_a_long_word_is_written_before_it_ends() -> None:
    wrap = WordWrap(lambda: 5)
    assert wrap.feed("ab") == ""
    assert wrap.feed("cdefgh") == "abcdefgh"
    assert wrap.feed("i j") == "i"


def test_a_window_may_change_its_size() -> None:
    width = 20
    wrap = WordWrap(lambda: width)
    assert wrap.feed("one two ") == "one two"
    width = 10
    assert wrap.feed("three ") == "\nthree"
