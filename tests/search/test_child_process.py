"""Forked processes: how they end, and what reaches them."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import pytest

from heretic.errors import ModelError, NoMemoryError
from heretic.search import child_process
from heretic.search.child_process import end_processes, failure, start_processes
from heretic.search.process_pool import simultaneous_seconds, workers
from tests.support.measurers import FakeMeasurer


def test_ctrl_c_reaches_the_parent_alone() -> None:
    """A terminal sends it to all processes of a group."""
    assert simultaneous_seconds(2, lambda: os.kill(os.getpid(), signal.SIGINT)) < float("inf")


def answer_of(run: Callable[[Connection], None]) -> object:
    """What a child sends; None if it ends before."""
    started: list[tuple[Connection, Any]] = []
    try:
        start_processes(started, run, [()])
        [(connection, process)] = started
        try:
            return connection.recv()
        except EOFError:
            process.join()
            return None
    finally:
        end_processes(started)


def test_a_signal_that_the_parent_ignores_ends_no_child() -> None:
    """The shell of a terminal that closes sends SIGHUP to a program under nohup and to its children."""

    def hung_up(connection: Connection) -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        connection.send("alive")

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert answer_of(hung_up) == "alive"
    finally:
        signal.signal(signal.SIGHUP, before)
    assert answer_of(hung_up) is None


def test_a_child_prints_neither_copied_text_nor_that_its_parent_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A fork copies buffers to which another thread has just written, and a send to a dead parent fails."""

    def buffered(_: Connection) -> None:
        sys.stdout.write("of the parent")

    def alone(_: Connection) -> None:
        raise BrokenPipeError

    with (tmp_path / "out").open("w") as output, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", output)
        assert [answer_of(each) for each in (buffered, alone)] == [None, None]
    assert (tmp_path / "out").read_text() == ""
    assert capfd.readouterr().err == ""


def test_a_second_ctrl_c_leaves_no_child() -> None:
    """It may end the wait for the first one."""
    killed = []

    class Process:
        def kill(self) -> None:
            killed.append(self)

        def join(self) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        end_processes([(None, Process()), (None, Process())])  # type: ignore[list-item]
    assert len(killed) == 2


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "memory"),
        (RuntimeError("std::bad_alloc"), "memory"),
        (NoMemoryError("none"), "memory"),
        (ModelError("none"), "user"),
        (ValueError("std::bad_alloc"), "error"),
    ],
)
def test_kinds_of_failures(error: Exception, kind: str) -> None:
    assert failure(error)[0] == kind


@pytest.mark.parametrize("task", [lambda: workers(2, FakeMeasurer()).__enter__(), lambda: simultaneous_seconds(2, str)])
def test_a_signal_between_two_forks_leaves_no_process(
    task: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def interrupted() -> Iterator[None]:
        yield
        os.kill(os.getpid(), signal.SIGTERM)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(child_process, "_quiet_forks", interrupted)
    before, others = signal.signal(signal.SIGTERM, interrupt), set(multiprocessing.active_children())
    try:
        with pytest.raises(KeyboardInterrupt):
            task()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert set(multiprocessing.active_children()) <= others


def test_a_signal_that_another_thread_takes_waits_too() -> None:
    """A mask holds it only for its own thread."""
    arrived: list[int] = []
    ended = threading.Event()
    other = threading.Thread(target=ended.wait)
    other.start()
    before = signal.signal(signal.SIGTERM, lambda number, _: arrived.append(number))
    try:
        with child_process.signals_held():
            os.kill(os.getpid(), signal.SIGTERM)
            ended.wait(0.05)
            inside = list(arrived)
        assert (inside, arrived) == ([], [signal.SIGTERM])
    finally:
        signal.signal(signal.SIGTERM, before)
        ended.set()
        other.join()


def test_processes_end_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        "from heretic.search.process_pool import workers\n"
        "from tests.support.measurers import FakeMeasurer\n"
        "with workers(2, FakeMeasurer()) as measurer:\n"
        "    print(*(process.pid for process in measurer._processes.values()), flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        processes = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        assert len(processes) == 2
        parent.kill()
    _, alive = psutil.wait_procs(processes, timeout=15)
    assert alive == []
