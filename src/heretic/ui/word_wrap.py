"""Line breaks between words for text that arrives in pieces: a terminal breaks a line in the middle of a word."""

from collections.abc import Callable

from rich.cells import cell_len

TAB = 8


class WordWrap:
    """Breaks lines at spaces, and between wide characters, which need none.

    The last word is kept back until it ends. A word that is longer than a line is left to the terminal. `width` is
    asked for each word: windows change their size.
    """

    def __init__(self, width: Callable[[], int]) -> None:
        self._width = width
        self._column = 0
        self._space = ""
        self._word = ""
        self._written = False
        """Whether the start of the word has been written, since it is longer than a line."""

    def feed(self, text: str) -> str:
        """What can be written after this piece; a newline ends the last word too."""
        return "".join(map(self._next, text))

    def _next(self, character: str) -> str:
        if character == "\n":
            written = self._end_word() + character
            self._column, self._space = 0, ""
            return written
        if character.isspace():
            written = self._end_word()
            self._space += character
            return written
        if cell_len(character) > 1:
            before = self._end_word()
            self._word = character
            return before + self._end_word()
        self._word += character
        if not self._written and cell_len(self._word) <= self._width():
            return ""
        written = self._end_word()
        self._written = True
        return written

    def _end_word(self) -> str:
        """The word with the space before it, which a line break replaces if the word does not fit the line."""
        word, space, continues = self._word, self._space, self._written
        self._word, self._written = "", False
        if not word:
            return ""
        self._space = ""
        start = self._column
        for each in space:
            start += TAB - start % TAB if each == "\t" else cell_len(each)
        width, length = self._width(), cell_len(word)
        if start + length <= width or continues or length > width:
            self._column = start + length if start + length <= width else (start + length) % width
            return space + word
        self._column = length
        return "\n" + word
