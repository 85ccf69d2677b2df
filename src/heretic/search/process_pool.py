"""Evaluates candidates in several processes, each with one CPU thread.

Threads of one process wait for each other after every matrix product, and small ones do not keep them busy. Processes
that evaluate a candidate each never wait. They are forked, so they share the weights and the baseline's caches.
"""

import ctypes
import gc
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, Protocol, TypeVar

import torch

from ..engine.protocol import Progress
from ..errors import ModelError
from .child_process import LOST, end_processes, failure, start_processes
from .measurer import EvaluationRequest, InProcessMeasurer, Outcome

MOST_SECONDS = 120
"""Seconds after which a process that has not answered counts as dead."""
AHEAD = 2
"""Open requests per process, so that a process that finishes early can go on; results are reported in order. More would
keep processes busy for 1 % more of the time, but start more candidates before the results that would prune them."""

Job = TypeVar("Job")
Result = TypeVar("Result")


class MeasuresJobs(Protocol[Job, Result]):
    """The function that each process runs, and this process if no other is left."""

    def measure(self, jobs: Sequence[Job], progress: Progress) -> list[tuple[Job, Result]]: ...


class ProcessPool(Generic[Job, Result]):
    """Evaluates candidates in forked processes. If one of them runs out of memory, the others take its request over."""

    def __init__(self, count: int, alone: MeasuresJobs[Job, Result], open_jobs: int = 0) -> None:
        self._alone = alone
        self._open_jobs = open_jobs
        self._queue: deque[Job] = deque()
        self._busy: dict[Connection, Job] = {}
        give_back_freed_memory()
        started: list[tuple[Connection, Any]] = []
        try:
            start_processes(started, _work, [(alone,)] * count)
        except KeyboardInterrupt:
            end_processes(started)
            raise
        self._processes: dict[Connection, Any] = dict(started)

    @property
    def ahead(self) -> int:
        return self._open_jobs or max(1, AHEAD * len(self._processes))

    def submit(self, job: Job) -> None:
        self._queue.append(job)
        # At once: the caller may be busy for a while before it asks for outcomes.
        self._hand_out()

    def outcomes(self, progress: Progress) -> list[tuple[Job, Result]]:
        done: list[tuple[Job, Result]] = []
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
                except LOST:
                    self._lose(connection)

    def _receive(self, connection: Connection, progress: Progress) -> list[tuple[Job, Result]]:
        try:
            kind, content = connection.recv()
        except LOST:
            self._lose(connection)
            return []
        if kind == "rows":
            progress(content)
            return []
        if kind == "memory":
            self._lose(connection)
            return []
        if kind == "user":
            raise ModelError(content)
        if kind == "error":
            raise RuntimeError(f"a process that measures candidates failed:\n{content}")
        return [(self._busy.pop(connection), content)]

    def _lose(self, connection: Connection) -> None:
        """Removes a process, and returns its request to the queue."""
        job = self._busy.pop(connection, None)
        if job is not None:
            self._queue.appendleft(job)
        end_processes([(connection, self._processes.pop(connection))])

    def close(self) -> None:
        end_processes(self._processes.items())
        self._processes = {}


@contextmanager
def workers(
    count: int, alone: InProcessMeasurer, open_candidates: int = 0
) -> Iterator[ProcessPool[EvaluationRequest, Outcome] | InProcessMeasurer]:
    """A pool of `count` processes, with `open_candidates` requested (0: twice the processes); `alone` itself for fewer
    than two."""
    if count < 2:
        yield alone
        return
    pool = ProcessPool(count, alone, open_candidates)
    try:
        yield pool
    finally:
        pool.close()


def can_fork(device: torch.device) -> bool:
    """Whether forked processes can evaluate candidates: on a CPU under Linux. A fork breaks libraries of macOS."""
    return device.type == "cpu" and hasattr(os, "fork") and os.uname().sysname == "Linux"


def give_back_freed_memory() -> None:
    """Returns memory to the system that this process has freed but its allocator keeps.

    Forked processes would copy such pages as they write to them, so unused memory would be held once per process. Only
    glibc needs the call; other C libraries keep less.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def simultaneous_seconds(count: int, task: Callable[[], None]) -> float:
    """Seconds until `count` single-threaded processes have all done `task` once after a warm-up; for a `count` of 1,
    this process does it."""
    if count == 1:
        task()
        start = time.perf_counter()
        task()
        return time.perf_counter() - start

    def run(connection: Connection) -> None:
        task()
        connection.send(None)
        connection.recv()
        task()
        connection.send(None)

    started: list[tuple[Connection, Any]] = []
    try:
        start_processes(started, run, [()] * count)
        if len(started) < count or not all(_heard(connection) for connection, _ in started):
            return float("inf")
        start = time.perf_counter()
        for connection, _ in started:
            with suppress(*LOST):
                connection.send(None)
        return time.perf_counter() - start if all(_heard(each) for each, _ in started) else float("inf")
    finally:
        end_processes(started)


def _heard(connection: Connection) -> bool:
    """Whether a process answers: False if it has died, of a lack of memory for instance."""
    try:
        answers = connection.poll(MOST_SECONDS)
        if answers:
            connection.recv()
    except LOST:
        return False
    return answers


def _work(connection: Connection, alone: MeasuresJobs[Any, Any]) -> None:
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        try:
            [(_, outcome)] = alone.measure([job], lambda rows: connection.send(("rows", rows)))
            message: tuple[str, Any] = "done", outcome
        except Exception as error:  # noqa: BLE001 (the parent raises it, whatever it is)
            message = failure(error)
        connection.send(message)
