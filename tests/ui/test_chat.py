"""The terminal's side of a chat, with a scripted one; then the whole of it in a pseudo-terminal."""

import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from heretic.errors import PromptError
from heretic.ui.chat import FOLDED, HELP, ChatOptions, Pipe, Terminal, talk


class Script(Terminal):
    """Reads from a list; an exception in it is raised. Remembers what was written."""

    def __init__(self, *lines: Any) -> None:
        self._lines = iter([*lines, EOFError()])
        self.pieces: list[str] = []

    def read(self) -> str:
        line = next(self._lines)
        if isinstance(line, BaseException):
            raise line
        return str(line)

    def write(self, text: str) -> None:
        self.pieces.append(text)

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class Echo:
    """Answers with what was said, letter by letter; remembers what was asked of it."""

    def __init__(self, stops_with: BaseException | None = None) -> None:
        self.calls: list[Any] = []
        self.closed = 0
        self._stops_with = stops_with

    def reply(self, text: str) -> Generator[str, None, None]:
        self.calls.append(text)
        try:
            yield from text
            if self._stops_with is not None:
                raise self._stops_with
        finally:
            self.closed += 1

    def reset(self) -> None:
        self.calls.append("RESET")

    def use_system_prompt(self, text: str) -> bool:
        self.calls.append(("SYSTEM", text))
        return text.startswith("Folded")

    def use_sampling(self, **changes: Any) -> None:
        self.calls.append(changes)

    def use_most_tokens(self, count: int) -> None:
        self.calls.append(("TOKENS", count))

    def use_seed(self, seed: int) -> None:
        self.calls.append(("SEED", seed))


def test_answers_come_as_they_grow() -> None:
    partner, terminal = Echo(), Script("abc", "", "/etc/passwd is what?")
    talk(partner, "A chat.", terminal)
    assert partner.calls == ["abc", "/etc/passwd is what?"]
    assert terminal.pieces[0] == f"A chat.\n{HELP}\n"
    assert terminal.pieces[1:6] == ["Model: ", "a", "b", "c", "\n"]
    assert partner.closed == 2


@pytest.mark.parametrize("end", ["/quit", "/exit", EOFError(), KeyboardInterrupt()])
def test_it_ends(end: Any) -> None:
    partner = Echo()
    talk(partner, "", Script(end, "never said"))
    assert partner.calls == []


def test_commands_reach_the_partner() -> None:
    partner = Echo()
    talk(
        partner,
        "",
        Script(
            "/reset",
            "/system Be brief.\nAlways.",
            "/system none",
            "/temperature 0.7",
            "/temperature 0",
            "/top-p 0.9",
            "/top-k 40",
            "/tokens 20",
            "/seed 3",
        ),
    )
    assert partner.calls == [
        "RESET",
        ("SYSTEM", "Be brief.\nAlways."),
        ("SYSTEM", ""),
        {"temperature": 0.7},
        {"temperature": 0.0},
        {"top_p": 0.9},
        {"top_k": 40},
        ("TOKENS", 20),
        ("SEED", 3),
    ]


def test_a_folded_system_prompt_is_announced() -> None:
    terminal = Script("/system Folded here.", "/system Be brief.", "/system none")
    talk(Echo(), "", terminal)
    assert [FOLDED in piece for piece in terminal.pieces[1:]] == [True, False, False]
    assert ChatOptions(system="Folded here.").apply(Echo()) == FOLDED
    assert ChatOptions(system="Be brief.", seed="3").apply(Echo()) == ""


@pytest.mark.parametrize(
    ("line", "printed"),
    [
        ("/temperature hot", "Expected a number from 0 up, got 'hot'"),
        ("/temperature -1", "Expected a number from 0 up"),
        ("/temperature nan", "Expected a number from 0 up"),
        ("/temperature", "Expected a number from 0 up"),
        ("/temperature inf", "Expected a number from 0 up"),
        ("/top-p 0", "Expected a number above 0"),
        ("/top-p 1.1", "Expected a number from 0 to 1"),
        ("/top-k -1", "Expected a whole number from 0 up"),
        ("/tokens 0", "Expected a whole number from 1 up"),
        ("/tokens ²", "Expected a whole number from 1 up"),
        ("/system", "Expected a text"),
        ("/rest", "There is no command /rest"),
        ("/help", HELP),
    ],
)
def test_an_unknown_command_is_an_error_and_not_sent(line: str, printed: str) -> None:
    partner, terminal = Echo(), Script(line)
    talk(partner, "", terminal)
    assert printed in "".join(terminal.pieces[1:])
    assert partner.calls == []


def test_ctrl_c_stops_a_response_and_the_chat_goes_on() -> None:
    partner, terminal = Echo(KeyboardInterrupt()), Script("ab", "cd")
    talk(partner, "", terminal)
    assert "ab (stopped)\n" in terminal.text
    assert partner.calls == ["ab", "cd"] and partner.closed == 2


def test_a_response_that_is_stopped_between_two_pieces_is_closed() -> None:
    class Interrupted(Script):
        def write(self, text: str) -> None:
            super().write(text)
            if text == "b":
                raise KeyboardInterrupt

    class Held(Echo):
        def reply(self, text: str) -> Generator[str, None, None]:
            self.held = super().reply(text)
            return self.held

    partner = Held()
    talk(partner, "", Interrupted("abc"))
    # Closed explicitly: the edit's hooks stay on the model until then, so garbage collection would be too late.
    assert partner.closed == 1


def test_a_full_conversation_is_an_error() -> None:
    terminal = Script("ab")
    talk(Echo(PromptError("No room. Begin a new one.")), "", terminal)
    assert "(No room. Begin a new one. /reset does.)" in terminal.text


@pytest.mark.parametrize(
    ("terminal", "printed"), [(True, "Model: one two\nthree four\n"), (False, "Model: one two three four\n")]
)
def test_lines_break_between_words_on_a_terminal_alone(
    terminal: bool, printed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "16")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    lines = iter(["one two three four\n", ""])
    monkeypatch.setattr(sys.stdin, "readline", lambda: next(lines))
    talk(Echo(), "", Pipe())
    assert capsys.readouterr().out.endswith(printed)


def test_a_response_does_not_move_the_cursor() -> None:
    terminal = Script("a\x1b[2Jb")
    talk(Echo(), "", terminal)
    assert "a[2Jb" in terminal.text


def test_a_chat_with_a_trial_in_a_terminal(planted_directory: Path, planted_flags: list[str], tmp_path: Path) -> None:
    pexpect = pytest.importorskip("pexpect")
    arguments = ["-m", "heretic", str(planted_directory / "planted"), *planted_flags]
    child = pexpect.spawn(sys.executable, arguments, timeout=90, encoding="utf-8", dimensions=(40, 120))
    try:
        child.expect("Which trial")
        child.send("\r")
        child.expect("what next")
        child.send("\x1b[B\x1b[B\r")
        child.expect("Chat with trial")
        for text in ("word1 trigger1", "word2 trigger2"):
            child.expect("You:")
            child.send(f"{text}\r")
            child.expect("Model: sure here")
        child.expect("You:")
        child.send("/temperature 0.001\r")
        child.expect("Temperature 0.001")
        child.expect("You:")
        child.send("\x1b")
        child.expect("what next")
        child.send("\x1b[B\x1b[B\x1b[B\r")
        if child.expect(["Which others", "Comparing baseline"]) == 0:
            child.send("\r")
            child.expect("Comparing baseline")
        child.expect("You:")
        child.send("word1 trigger1\r")
        child.expect("baseline")
        child.expect("sorry")
        child.expect("sure here")
        child.expect("You:")
        child.send("\r")
        child.expect("what next")
        child.send("\x03")
        child.expect("Which trial")
        child.send("\x1b")
        child.expect(pexpect.EOF)
    finally:
        child.close(force=True)
    assert child.exitstatus == 0
