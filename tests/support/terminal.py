"""The menus of a search in a process of their own, on a pseudo-terminal that a test types into."""

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pexpect.fdpexpect import fdspawn

UP, DOWN, ENTER, ESCAPE, CTRL_C, BACKSPACE = "\x1b[A", "\x1b[B", "\r", "\x1b", "\x03", "\x7f"
SCRIPT = """
import json
from tests.support.ui_toys import BASELINE, FRONT
from heretic.ui.menus import MenuChooser
from heretic.config import Benchmark
from heretic.events import FormatChoice
chooser = MenuChooser("org/model", [Benchmark(task="a", name="First"), Benchmark(task="b", name="Second")])
chooser.offer([FormatChoice("merge", "the model", ""), FormatChoice("adapter", "an adapter", "-adapter")])
def tell(action):
    number = action.trial.number if action.trial else None
    upload = [action.repository, action.public] if action.repository else []
    benchmarks = [[each.task for each in action.benchmarks]] if action.benchmarks else []
    answer = [action.kind, number, action.export, action.output, action.n_trials, *upload, *benchmarks]
    print("ANSWER " + json.dumps(answer) + " END")
"""


class Terminal:
    """A program on a terminal of 100 columns, and somebody who types."""

    def __init__(self, screen: Any) -> None:
        self._screen = screen

    def type(self, *keys: str) -> None:
        for key in keys:
            self._screen.send(key)

    def see(self, text: str) -> None:
        self._screen.expect_exact(text)

    def answer(self) -> Any:
        self._screen.expect(r"ANSWER (.*?) END")
        return json.loads(self._screen.match.group(1))


@contextmanager
def running(questions: str) -> Iterator[Terminal]:
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    environment = os.environ | {"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
    command = [sys.executable, "-c", SCRIPT + questions]
    directory = Path(__file__).parents[2]
    with subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, env=environment, cwd=directory
    ) as process:
        os.close(follower)
        screen = fdspawn(leader, timeout=60, encoding="utf-8")
        try:
            yield Terminal(screen)
            assert process.wait(10) == 0
        finally:
            process.kill()
            screen.close()
