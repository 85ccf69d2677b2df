"""A chat on the terminal."""

import math
import re
import shutil
import sys
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from ..errors import ConfigError, UserError
from ..events import Partner
from ..printable import printable
from .word_wrap import WordWrap

HELP = """/reset           begin a new conversation
/system TEXT     begin a new one with this system prompt (none: without one)
/temperature X   0 always takes the likeliest token; 0.7 is lively, above 1 is wild
/top-p X         draw from the likeliest tokens whose probabilities sum to X (1: from all)
/top-k N         draw from the N likeliest tokens (0: from all)
/tokens N        end a response after N tokens
/seed N          draw the same again
/quit            go back, as Escape on an empty line, Ctrl+D and Ctrl+C do;
                 during a response Ctrl+C stops it"""
FOLDED = "The chat template takes no system message: it goes before the user's text."
COMMAND = re.compile(r"/([a-z-]+)(?:\s+(.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """The initial settings of a chat, named like its commands and flags."""

    system: str | None = None
    temperature: str | None = None
    top_p: str | None = None
    top_k: str | None = None
    tokens: str | None = None
    seed: str | None = None

    def check(self) -> None:
        """Raises:
        ConfigError: a value can't be.
        """
        self.apply(_Nobody())

    def apply(self, partner: Partner) -> str:
        """Sets them; what the user should know about it, or "".

        Raises:
            ConfigError: a value is invalid.
        """
        note = ""
        for name in ("system", *VALUES):
            value = getattr(self, name.replace("-", "_"))
            if value is None:
                continue
            try:
                said = SETTERS[name](partner, value)
            except ValueError as error:
                raise ConfigError(f"--{'system-prompt' if name == 'system' else name}: {error}") from error
            note = FOLDED if said.endswith(FOLDED) else note
        return note


class _Nobody:
    """A partner who takes every setting and never answers, to check settings with."""

    def reset(self) -> None: ...

    def use_system_prompt(self, text: str) -> bool:
        return False

    def use_sampling(self, **changes: float) -> None: ...

    def use_most_tokens(self, count: int) -> None: ...

    def use_seed(self, seed: int) -> None: ...

    def reply(self, text: str) -> Generator[str, None, None]:
        yield from ()


class LineReader(Protocol):
    """The source of a user's lines."""

    def read(self) -> str:
        """A line.

        Raises:
            EOFError, KeyboardInterrupt: there is no more.
        """


class Terminal:
    """Reads lines with an editor that remembers them, writes pieces as they come."""

    def __init__(self) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.filters import Condition
        from prompt_toolkit.key_binding import KeyBindings

        self._session: PromptSession[str] = PromptSession(key_bindings=(keys := KeyBindings()))
        # Elsewhere Escape begins a key of the editor.
        empty = Condition(lambda: not self._session.default_buffer.text)
        keys.add("escape", filter=empty, eager=True)(lambda event: event.app.exit(exception=EOFError))

    def read(self) -> str:
        """A line.

        Raises:
            EOFError, KeyboardInterrupt: Ctrl+D, Escape on an empty line, Ctrl+C.
        """
        return self._session.prompt("\nYou: ")

    @cached_property
    def _words(self) -> WordWrap | None:
        """Line breaks between words; None where the output is a file or pipe, whose reader breaks the lines."""
        return WordWrap(lambda: shutil.get_terminal_size().columns) if sys.stdout.isatty() else None

    def write(self, text: str) -> None:
        """Writes a piece of text; on a terminal the last word follows when it ends."""
        text = printable(text)
        print(text if self._words is None else self._words.feed(text), end="", flush=True)


class Pipe(Terminal):
    """Reads the lines of a file or pipe instead."""

    def __init__(self) -> None:
        """No editor is needed."""

    def read(self) -> str:
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        self.write(f"\nYou: {line.rstrip()}\n")
        return line


def lines_of_stdin() -> Terminal:
    """A terminal with an editor, or the piped input."""
    return Terminal() if sys.stdin.isatty() else Pipe()


def talk(partner: Partner, title: str, terminal: Terminal | None = None) -> None:
    """Talks until the user ends it."""
    terminal = terminal or Terminal()
    terminal.write(f"{title}\n{HELP}\n")
    while True:
        try:
            text = terminal.read().strip()
        except (EOFError, KeyboardInterrupt):
            return
        command = COMMAND.fullmatch(text)
        if command is None:
            if text:
                _answer(partner, text, terminal)
        elif command[1] in ("quit", "exit"):
            return
        else:
            terminal.write(_obey(partner, command[1], (command[2] or "").strip()) + "\n")


def _answer(partner: Partner, text: str, terminal: Terminal) -> None:
    try:
        terminal.write("Model: ")
        said = False
        with closing(partner.reply(text)) as pieces:
            for piece in pieces:
                said = said or bool(piece.strip())
                terminal.write(printable(piece))
        if not said:
            terminal.write("(nothing)")
    except KeyboardInterrupt:
        terminal.write(" (stopped)")
    except UserError as error:
        terminal.write(f"({error} /reset does.)")
    terminal.write("\n")


def _obey(partner: Partner, command: str, argument: str) -> str:
    """Carries out a command; the answer to it."""
    if command == "help":
        return HELP
    if command == "reset":
        partner.reset()
        return "A new conversation."
    if command not in SETTERS:
        return f"There is no command /{command}. There are:\n{HELP}"
    try:
        return SETTERS[command](partner, argument)
    except ValueError as error:
        return f"{error} (as in /{command} {EXAMPLES[command]})"


def _system(partner: Partner, argument: str) -> str:
    if not argument:
        raise ValueError("Expected a text, or none.")
    system = "" if argument.lower() == "none" else argument
    folded = partner.use_system_prompt(system)
    said = "A new conversation, " + (f"with the system prompt {system!r}." if system else "without a system prompt.")
    return f"{said} {FOLDED}" if folded else said


def _temperature(partner: Partner, argument: str) -> str:
    partner.use_sampling(temperature=_number(argument, 0.0, math.inf))
    return f"Temperature {float(argument):g}."


def _top_p(partner: Partner, argument: str) -> str:
    value = _number(argument, 0.0, 1.0)
    if value == 0:
        raise ValueError(f"Expected a number above 0, at most 1, got {argument!r}.")
    partner.use_sampling(top_p=value)
    return f"Drawing from the likeliest tokens that sum to {value:g}."


def _top_k(partner: Partner, argument: str) -> str:
    count = _whole(argument, 0)
    partner.use_sampling(top_k=count)
    return f"Drawing from the {count} likeliest tokens." if count else "Drawing from all tokens."


def _tokens(partner: Partner, argument: str) -> str:
    partner.use_most_tokens(_whole(argument, 1))
    return f"Responses end after {int(argument)} tokens."


def _seed(partner: Partner, argument: str) -> str:
    partner.use_seed(_whole(argument, 0) % 2**63)
    return f"Seed {int(argument)}."


def _number(text: str, least: float, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most or math.isinf(value):
        upper = "up" if math.isinf(most) else f"to {most:g}"
        raise ValueError(f"Expected a number from {least:g} {upper}, got {text!r}.")
    return value


def _whole(text: str, least: int) -> int:
    # `isdecimal`: "²" is a digit, but no number to `int`.
    if not text.isdecimal() or int(text) < least:
        raise ValueError(f"Expected a whole number from {least} up, got {text!r}.")
    return int(text)


VALUES = ("temperature", "top-p", "top-k", "tokens", "seed")
EXAMPLES = {
    "system": "You are a pirate.",
    "temperature": "0.7",
    "top-p": "0.9",
    "top-k": "40",
    "tokens": "200",
    "seed": "1",
}
SETTERS: dict[str, Callable[[Partner, str], str]] = {
    "system": _system,
    "temperature": _temperature,
    "top-p": _top_p,
    "top-k": _top_k,
    "tokens": _tokens,
    "seed": _seed,
}
