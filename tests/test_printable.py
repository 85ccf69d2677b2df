"""No text of others moves the cursor, names a window, or reads otherwise than it is stored."""

import io

import pytest
from rich.console import Console

from heretic.printable import one_line, printable
from heretic.ui.compare import Sides
from heretic.ui.live import LiveReporter
from heretic.ui.plain import PlainReporter

ATTACKS = {
    "clear the screen": "\x1b[2J",
    "name the window": "\x1b]0;owned\x07",
    "a link": "\x1b]8;;http://example.com\x1b\\here\x1b]8;;\x1b\\",
    "C1": "\x9b2J\x9d0;owned\x9c",
    "return to the line's start": "\rTrial 0: 0/32",
    "backspaces": "\x08\x08",
    "right to left": "\u202eexe.gpj\u202c",
    "isolates": "\u2066abc\u2069\u2067\u2068",
    "delete": "\x7f",
    "line separators": "one\u2028two\u2029three",
}
FORBIDDEN = set("\x1b\x9b\x9d\x9c\r\x08\x07\x7f\u202e\u202c\u2066\u2067\u2068\u2069\u2028\u2029")


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_what_is_shown_holds_no_control(attack: str) -> None:
    assert not FORBIDDEN & set(printable(attack))


def test_ordinary_text_stays() -> None:
    text = "a\tb\né, שלום \u200f(1), \U0001f600, ½"
    assert printable(text) == text
    assert printable("a\x1b[2Jb\r\x9b1mc\x7f\td\né") == "a[2Jb1mc\td\né"


def test_a_message_is_one_line() -> None:
    assert one_line("no model x\nSaved out\r\n\x1b[2JTrial 0\u2028: 0/32") == "no model x Saved out [2JTrial 0: 0/32"


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_plain_lines_are_filtered(attack: str) -> None:
    stream = io.StringIO()
    reporter = PlainReporter(stream)
    reporter.say(attack)
    reporter.warn(attack)
    with reporter.step(attack):
        pass
    reporter.table(attack, [attack, "b"], [[attack, attack]])
    assert not FORBIDDEN & set(stream.getvalue())


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_the_live_view_is_filtered(attack: str) -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=200)
    reporter = LiveReporter(console)
    reporter.say(attack)
    reporter.warn(attack)
    with reporter.step(attack):
        pass
    reporter.table(attack, [attack, "b"], [[attack, attack]])
    sides = Sides(stream)
    sides.say(attack)
    sides.show(attack, [attack, "b"], [attack, attack])
    assert not FORBIDDEN & set(stream.getvalue())
