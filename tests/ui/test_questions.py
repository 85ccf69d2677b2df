"""A question of trust on a real terminal."""

import io
import sys

import pexpect
import pytest
from rich.console import Console

from heretic.ui.live import LiveReporter
from heretic.ui.plain import PlainReporter

SCRIPT = """
import sys
from heretic.ui.plain import PlainReporter
answer = PlainReporter(sys.stderr, asks=True).confirm("It brings code:", ["modeling_odd.py (7 lines)"], "Run it?")
print("ANSWER", answer, "END")
"""


@pytest.mark.parametrize(("key", "answer"), [("\r", "False"), ("n", "False"), ("\x03", "False"), ("y", "True")])
def test_only_yes_is_yes(key: str, answer: str) -> None:
    child = pexpect.spawn(sys.executable, ["-c", SCRIPT], timeout=60, encoding="utf-8", dimensions=(24, 100))
    child.expect_exact("modeling_odd.py (7 lines)")
    child.expect_exact("Run it?")
    child.send(key)
    child.expect(r"ANSWER (\w+) END")
    assert child.match.group(1) == answer
    child.expect(pexpect.EOF)
    child.close()


def test_where_nobody_can_be_asked_it_is_no() -> None:
    stream = io.StringIO()
    for reporter in (PlainReporter(stream), LiveReporter(Console(file=stream))):
        assert not reporter.confirm("It brings code:", ["modeling_odd.py"], "Run it?")
    assert stream.getvalue() == ""
