"""A worker whose model is spread over several processes of its machine: it leads, and the others follow.

All processes perform the same tasks with the same arguments; the leader's answer counts. If one of them dies, all end,
and the pool sees one actor that died.
"""

import os
import pickle
import queue
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...engine.protocol import MEMORY_ERRORS, RuntimeProfile, lacked_memory
from ...errors import UserError
from ...model.sharding import join_ranks
from .checkpoint_files import checkpoint_here
from .system import ActorFacts, Answer, Refused, Status
from .worker import ModelWorker, StudyState, WorkerSpec

GRACE = 5.0
"""Seconds between a follower's death and the leader's: an error that both met is reported by the leader first."""
FOLLOW = f"from {__name__} import follow; follow()"


class ShardedWorker:
    """The first of `spec.ranks` processes; has the methods of `ModelWorker`."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._spec = spec
        self._own: ModelWorker | None = None
        self._followers: list[subprocess.Popen[bytes]] = []
        self._doing = "starting"

    def open(self, known: RuntimeProfile | None) -> ActorFacts | Refused:
        try:
            checkpoint = checkpoint_here(self._spec.model, self._note)
        except UserError as error:
            return Refused(str(error))
        # Followers find the files where this process has put them.
        source = replace(self._spec.model, checkpoint=checkpoint, read=_nothing)
        spec = replace(self._spec, model=source)
        meeting = Path(tempfile.mkdtemp(prefix="heretic-ranks-")) / "meeting"
        self._followers = [_start(spec, rank, meeting) for rank in range(1, spec.ranks)]
        threading.Thread(target=self._watch, daemon=True).start()
        self._own = ModelWorker(spec)
        join_ranks(0, spec.ranks, meeting)
        found = self._together("open", known)
        if isinstance(found, Refused):
            self.end()
        assert isinstance(found, ActorFacts | Refused)
        return found

    def begin(self, state: StudyState) -> None:
        self._together("begin", state)

    def perform(self, task: int, method: str, title: str, *arguments: Any) -> Answer:
        answer = self._together("perform", task, method, title, *arguments)
        assert isinstance(answer, Answer)
        return answer

    def status(self) -> Status:
        return Status(self._doing, 0) if self._own is None else self._own.status()

    def cancel(self, task: int) -> None:
        if self._own is not None:
            self._own.cancel(task)

    def end(self) -> None:
        """Ends the followers."""
        followers, self._followers = self._followers, []
        for each in followers:
            assert each.stdin is not None
            each.stdin.close()
            each.wait()

    def _together(self, method: str, *arguments: Any) -> Any:
        assert self._own is not None
        for each in self._followers:
            assert each.stdin is not None
            pickle.dump((method, arguments), each.stdin)
            each.stdin.flush()
        try:
            return getattr(self._own, method)(*arguments)
        except MEMORY_ERRORS as error:
            if not lacked_memory(error):
                raise
            # The followers wait in the middle of a forward: the pool starts another actor.
            traceback.print_exc()
            os._exit(1)

    def _watch(self) -> None:
        """Ends this process with the first follower that dies: the others would wait for it forever."""
        followers = list(self._followers)
        while all(each.poll() is None for each in followers):
            time.sleep(0.2)
        if self._followers:
            time.sleep(GRACE)
            os._exit(1)

    def _note(self, text: str) -> None:
        self._doing = text


def _start(spec: WorkerSpec, rank: int, meeting: Path) -> "subprocess.Popen[bytes]":
    follower = subprocess.Popen([sys.executable, "-c", FOLLOW], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert follower.stdin is not None
    pickle.dump((spec, rank, meeting), follower.stdin)
    follower.stdin.flush()
    return follower


def follow() -> None:
    """Performs the leader's tasks, which come through standard input, and ends with it."""
    commands: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(commands,), daemon=True).start()
    spec, rank, meeting = commands.get()
    worker = ModelWorker(spec)
    join_ranks(rank, spec.ranks, meeting)
    while True:
        method, arguments = commands.get()
        try:
            getattr(worker, method)(*arguments)
        # The leader meets the same error, unless it is this process's own: then all ranks end.
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
            os._exit(1)


def _read(commands: "queue.SimpleQueue[Any]") -> None:
    while True:
        try:
            commands.put(pickle.load(sys.stdin.buffer))
        except EOFError:
            # At once, even during a forward: its other ranks are gone.
            os._exit(0)


def _nothing(name: str, offset: int, length: int) -> bytes:
    raise AssertionError("the files are on this machine")
