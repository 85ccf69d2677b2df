"""Answers side by side on the terminal."""

from collections.abc import Callable, Sequence
from typing import TextIO

from ..errors import UserError
from ..printable import printable
from .chat import LineReader, lines_of_stdin
from .text import shown

Ask = Callable[[str], list[str]]
LEAST_WIDTH = 32
"""Narrower columns are hard to read: the answers are then written below each other."""
HELP = "Type a prompt for all of them; an empty line, Escape, Ctrl+D or Ctrl+C ends it."


class Sides:
    """Writes answers side by side if the terminal is wide enough, else below each other."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console

        self._console = Console(file=stream, highlight=False, markup=False, emoji=False)

    def say(self, text: str) -> None:
        self._console.print(printable(text))

    def show(self, prompt: str, names: Sequence[str], answers: Sequence[str]) -> None:
        texts = [printable(answer.strip()) or "(nothing)" for answer in answers]
        width = self._console.width // len(names)
        self._console.print(f"\n{printable(prompt)}", style="bold")
        if self._console.is_terminal and width >= LEAST_WIDTH:
            self._columns(names, texts)
        else:
            for name, text in zip(names, texts, strict=True):
                self._console.print(f"\n[{printable(name)}]", style="bold cyan")
                self._console.print(text)

    def _columns(self, names: Sequence[str], texts: Sequence[str]) -> None:
        from rich.table import Table

        table = Table(expand=True)
        for name in names:
            table.add_column(shown(name), ratio=1, overflow="fold")
        table.add_row(*map(shown, texts))
        self._console.print(table)


def comparison_screen(stream: TextIO, prompts: Sequence[str] = ()) -> Callable[[Sequence[str], Ask], None]:
    """A screen that shows the answers to `prompts`, or, without any, to what the user types."""
    sides = Sides(stream)

    def show(names: Sequence[str], ask: Ask) -> None:
        if not prompts:
            compare_until_done(ask, names, sides)
        for prompt in prompts:
            sides.show(prompt, names, ask(prompt))

    return show


def compare_until_done(ask: Ask, names: Sequence[str], sides: Sides, reader: LineReader | None = None) -> None:
    """Reads prompts and shows the answers to them, until the user ends it."""
    reader = reader or lines_of_stdin()
    sides.say(f"Comparing {', '.join(names)}. {HELP}")
    while True:
        try:
            prompt = reader.read().strip()
        except (EOFError, KeyboardInterrupt):
            return
        if not prompt:
            return
        try:
            sides.show(prompt, names, ask(prompt))
        except KeyboardInterrupt:
            sides.say("(stopped)")
        except UserError as error:
            sides.say(f"({error})")
