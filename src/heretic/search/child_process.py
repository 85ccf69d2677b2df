"""Forked processes of one CPU thread each, which end with their parent and leave Ctrl+C to it."""

import multiprocessing
import os
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import torch

from ..engine.protocol import out_of_memory
from ..errors import NoMemoryError, UserError

ENDING = frozenset(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that end the program; Windows has no SIGHUP."""
LOST = (EOFError, OSError)
"""Errors of a connection to a process that died, before a message or in the middle of one."""


def start_processes(
    started: list[tuple[Connection, Any]], run: Callable[..., None], arguments: Iterable[Sequence[Any]]
) -> None:
    """Adds to `started` a child for each of the arguments; fewer where the system has no memory or room for more."""
    with signals_held():
        for each in arguments:
            try:
                started.append(forked(run, *each))
            except OSError:
                return


def end_processes(processes: Iterable[tuple[Connection, Any]]) -> None:
    """Kills processes: all of them before it waits for the first, since a second Ctrl+C ends the wait."""
    ended = list(processes)
    for _, process in ended:
        process.kill()
    for connection, process in ended:
        process.join()
        connection.close()


def failure(error: Exception) -> tuple[str, str]:
    """The kind of a child's error, and the text for its parent.

    "memory": it lacks memory, which others may have. "user": the text is for the user. "error": a traceback.
    """
    if isinstance(error, NoMemoryError) or out_of_memory(error):
        return "memory", ""
    if isinstance(error, UserError):
        return "user", str(error)
    return "error", traceback.format_exc()


def forked(run: Callable[..., None], *arguments: Any) -> tuple[Connection, Any]:
    """Starts a child that runs `run` with its end of a connection; returns this process's end, and the child.

    Signals must be held until the child has handlers of its own.
    """
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_child, args=(os.getpid(), run, theirs, *arguments), daemon=True)
    with _quiet_forks():
        process.start()
    # The child holds the only copy now, so the connection ends with the child.
    theirs.close()
    return ours, process


@contextmanager
def signals_held() -> Iterator[None]:
    """Signals that end the program arrive after the `with` block: in between, a child would handle them as its parent
    does, with a traceback, and the parent would lose the child."""
    held: list[int] = []
    # The mask is this thread's and its children's: another thread may take a signal of the program, whose handler then
    # runs in the main thread.
    mine = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in ENDING if mine and not _is_ignored(number)}
    for number in handlers:
        signal.signal(number, lambda number, _: held.append(number))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for number in held:
            signal.raise_signal(number)


def _child(parent: int, run: Callable[..., None], *arguments: Any) -> None:
    """Runs `run` with one thread, in a process that ends with its parent and leaves Ctrl+C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The handlers of the parent raise an exception; a child just ends. What the parent ignores (nohup) stays ignored.
    for number in ENDING:
        if not _is_ignored(number):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        run(*arguments)
    except (BrokenPipeError, ConnectionResetError):
        # The parent is gone: a traceback would only puzzle the user who killed it.
        os._exit(1)
    # Not by returning: multiprocessing would flush the buffers that the fork copied, and print the parent's text again.
    os._exit(0)


def _is_ignored(number: int) -> bool:
    return signal.getsignal(number) is signal.SIG_IGN


@contextmanager
def _quiet_forks() -> Iterator[None]:
    """Silences Python's warning that a fork has only one of the threads: the children use only one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def _end_with(parent: int) -> None:
    """Ends this process when its parent is gone: a killed parent can't end its children."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
