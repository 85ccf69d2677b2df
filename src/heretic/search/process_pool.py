"""Candidates measured by several processes, each with one thread of the CPU.

Small matrix products do not keep several threads busy: between any two of them all wait for the slowest. Processes that
measure a candidate each never wait for one another. They are forked, so that they share the weights, and what the
baseline left behind.
"""

import ctypes
import gc
import multiprocessing
import os
import signal
import threading
import time
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from ..engine.protocol import Progress
from .measurer import EvaluationRequest, EvaluationResult, InProcessMeasurer

MOST_SECONDS = 120
AHEAD = 2
"""Jobs that may be open for each process: one that is done early goes on, and is told in its turn. More of them would
keep processes busy for 1 % more of the time, and have more candidates measured without knowing what rules them out."""


class ProcessPool:
    """Measures candidates in forked processes; a process that dies for want of memory leaves its job to the others."""

    def __init__(self, count: int, alone: InProcessMeasurer) -> None:
        self._alone = alone
        self._queue: deque[EvaluationRequest] = deque()
        self._busy: dict[Connection, EvaluationRequest] = {}
        self._processes: dict[Connection, Any] = {}
        give_back_freed_memory()
        for _ in range(count):
            connection, process = _fork(_work, alone, os.getpid())
            self._processes[connection] = process

    @property
    def ahead(self) -> int:
        return max(1, AHEAD * len(self._processes))

    def submit(self, job: EvaluationRequest) -> None:
        self._queue.append(job)

    def outcomes(self, progress: Progress) -> list[EvaluationResult]:
        done: list[EvaluationResult] = []
        while not done:
            if not self._processes:
                return self._alone.measure([self._queue.popleft()], progress)
            self._hand_out()
            for connection in wait(list(self._busy)):
                assert isinstance(connection, Connection)
                done += self._receive(connection, progress)
        self._hand_out()
        return done

    def _hand_out(self) -> None:
        for connection in list(self._processes):
            if connection not in self._busy and self._queue:
                job = self._queue.popleft()
                self._busy[connection] = job
                try:
                    connection.send(job)
                except (BrokenPipeError, ConnectionResetError):
                    self._lose(connection)

    def _receive(self, connection: Connection, progress: Progress) -> list[EvaluationResult]:
        try:
            kind, content = connection.recv()
        except (EOFError, ConnectionResetError):
            self._lose(connection)
            return []
        if kind == "rows":
            progress(content)
            return []
        if kind == "memory":
            self._lose(connection)
            return []
        if kind == "error":
            raise RuntimeError(f"a process that measures candidates failed:\n{content}")
        return [(self._busy.pop(connection), content)]

    def _lose(self, connection: Connection) -> None:
        """Goes on with one process less."""
        job = self._busy.pop(connection, None)
        if job is not None:
            self._queue.appendleft(job)
        process = self._processes.pop(connection)
        connection.close()
        process.kill()

    def close(self) -> None:
        for connection, process in self._processes.items():
            process.kill()
            process.join()
            connection.close()
        self._processes = {}


@contextmanager
def workers(count: int, alone: InProcessMeasurer) -> Iterator[ProcessPool | InProcessMeasurer]:
    """`count` processes, or `alone` where that is fewer than two."""
    if count < 2:
        yield alone
        return
    forked = ProcessPool(count, alone)
    try:
        yield forked
    finally:
        forked.close()


def can_fork(device: torch.device) -> bool:
    """Forked processes can't use an accelerator; macOS's own libraries don't survive a fork."""
    return device.type == "cpu" and hasattr(os, "fork") and os.uname().sysname == "Linux"


def give_back_freed_memory() -> None:
    """Returns to the system what this process has freed but its allocator keeps.

    A forked process shares it, and copies each page that it writes to: what nobody uses would be held once a process.
    Only glibc is asked; other C libraries keep less.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def simultaneous_seconds(count: int, task: Callable[[], None]) -> float:
    """Seconds until `count` processes of one thread have all done `task` once, warmed up; 1 is this process itself."""
    if count == 1:
        task()
        start = time.perf_counter()
        task()
        return time.perf_counter() - start

    def run(connection: Connection) -> None:
        torch.set_num_threads(1)
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        task()
        connection.send(None)
        connection.recv()
        task()
        connection.send(None)

    started = [_fork(run) for _ in range(count)]
    try:
        if not all(_heard(connection) for connection, _ in started):
            return float("inf")
        start = time.perf_counter()
        for connection, _ in started:
            connection.send(None)
        return time.perf_counter() - start if all(_heard(each) for each, _ in started) else float("inf")
    finally:
        for connection, process in started:
            process.kill()
            process.join()
            connection.close()


def _heard(connection: Connection) -> bool:
    """Whether a process answers; one that died, for want of memory perhaps, never will."""
    try:
        answers = connection.poll(MOST_SECONDS)
        if answers:
            connection.recv()
    except (EOFError, ConnectionResetError):
        return False
    return answers


def _fork(run: Callable[..., None], *arguments: Any) -> tuple[Connection, Any]:
    """A child that runs `run` with its end of a connection; returns ours, and the process."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=run, args=(theirs, *arguments), daemon=True)
    with _quiet_forks():
        process.start()
    # Only the child holds it now: ours ends with it.
    theirs.close()
    return ours, process


@contextmanager
def _quiet_forks() -> Iterator[None]:
    """Python warns of threads that a forked process does not have: ours compute with the one that they have."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def _work(connection: Connection, alone: InProcessMeasurer, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The parent's handlers would raise here; a child just ends.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        try:
            [(_, outcome)] = alone.measure([job], lambda rows: connection.send(("rows", rows)))
            message: tuple[str, Any] = "done", outcome
        except MemoryError:
            message = "memory", None
        except Exception:  # noqa: BLE001 (whatever it is, the parent raises it)
            message = "error", traceback.format_exc()
        connection.send(message)


def _end_with(parent: int) -> None:
    """A killed parent can't end its children: they look."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
