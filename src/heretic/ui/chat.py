"""A chat on the terminal."""

import math
import re
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Protocol

from ..errors import UserError
from ..report.responses import printable

HELP = """/reset           begin a new conversation
/system TEXT     begin a new one with this system prompt (none: without one)
/temperature X   0 always takes the likeliest token; 0.7 is lively, above 1 is wild
/quit            back to the menu, as are Ctrl+D and Ctrl+C; during a response Ctrl+C stops it"""
COMMAND = re.compile(r"/([a-z]+)(?:\s+(.*))?", re.DOTALL)


class Partner(Protocol):
    """Who answers; remembers the conversation."""

    def reply(self, text: str) -> Generator[str, None, None]:
        """The answer to `text`, in pieces. What was said when it is closed early stays in the conversation."""

    def reset(self) -> None:
        """Forgets the conversation."""

    def use_system_prompt(self, text: str) -> None:
        """Forgets the conversation; the next has this system prompt ("" for none)."""

    def use_temperature(self, temperature: float) -> None:
        """From the next answer on; 0 is greedy."""


class Terminal:
    """Reads lines with an editor that remembers them, writes pieces as they come."""

    def __init__(self) -> None:
        from prompt_toolkit import PromptSession

        self._session: PromptSession[str] = PromptSession()

    def read(self) -> str:
        """A line.

        Raises:
            EOFError, KeyboardInterrupt: Ctrl+D, Ctrl+C.
        """
        return self._session.prompt("\nYou: ")

    def write(self, text: str) -> None:
        print(text, end="", flush=True)


def talk(partner: Partner, title: str, terminal: Terminal | None = None) -> None:
    """Talks until the user has had enough."""
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
    obeys: dict[str, Callable[[Partner, str], str]] = {
        "reset": _reset,
        "system": _system,
        "temperature": _temperature,
        "help": lambda _, __: HELP,
    }
    if command not in obeys:
        return f"There is no command /{command}. There are:\n{HELP}"
    return obeys[command](partner, argument)


def _reset(partner: Partner, _: str) -> str:
    partner.reset()
    return "A new conversation."


def _system(partner: Partner, argument: str) -> str:
    if not argument:
        return "Expected a text, or none: /system TEXT"
    system = "" if argument.lower() == "none" else argument
    partner.use_system_prompt(system)
    return "A new conversation, " + (f"with the system prompt {system!r}." if system else "without a system prompt.")


def _temperature(partner: Partner, argument: str) -> str:
    try:
        temperature = float(argument)
    except ValueError:
        temperature = math.nan
    if not 0 <= temperature < math.inf:
        return f"Expected a number from 0 up, got {argument!r}: /temperature 0.7"
    partner.use_temperature(temperature)
    return f"Temperature {temperature:g}."
