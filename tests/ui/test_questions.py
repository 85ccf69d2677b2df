"""A question of trust on a real terminal."""

import io

import pytest
from rich.console import Console

from heretic.ui.live import LiveReporter
from heretic.ui.plain import PlainReporter
from tests.support.terminal import CTRL_C, ENTER, ESCAPE, running

ASK = """
import sys
from heretic.ui.plain import PlainReporter
answer = PlainReporter(sys.stderr, asks=True).confirm("It brings code:", ["modeling_odd.py (7 lines)"], "Run it?")
print("ANSWER " + json.dumps(answer) + " END")
"""


@pytest.mark.parametrize(
    ("key", "answer"), [(ENTER, False), ("n", False), (CTRL_C, False), (ESCAPE, False), ("y", True)]
)
def test_only_yes_is_yes(key: str, answer: bool) -> None:
    with running(ASK) as terminal:
        terminal.see("modeling_odd.py (7 lines)")
        terminal.see("Run it?")
        terminal.type(key)
        assert terminal.answer() is answer


def test_where_nobody_can_be_asked_it_is_no() -> None:
    stream = io.StringIO()
    for reporter in (PlainReporter(stream), LiveReporter(Console(file=stream))):
        assert not reporter.confirm("It brings code:", ["modeling_odd.py"], "Run it?")
    assert stream.getvalue() == ""
