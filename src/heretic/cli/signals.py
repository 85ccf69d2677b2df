"""Signals that ask the program to end: it stops as it does on Ctrl+C, and keeps what is finished."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ENDING = ("SIGTERM", "SIGHUP")
"""Sent by kill, systemd and schedulers, and by a terminal that closes. Windows has no SIGHUP."""

received: list[int] = []
"""Numbers of the signals that asked this run to end."""


@contextmanager
def ending_signals(for_good: bool = False) -> Iterator[None]:
    """Makes SIGTERM and SIGHUP raise KeyboardInterrupt inside the `with` block, as Ctrl+C does; signals that the caller
    ignores (nohup) stay ignored.

    A non-interactive shell starts background jobs with SIGINT ignored; here it is handled all the same. The handlers
    are restored afterwards. With `for_good` the process is about to end, so Ctrl+C is ignored from then on.
    """
    received.clear()
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before[signal.SIGINT] = signal.getsignal(signal.SIGINT)
        if before[signal.SIGINT] is signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        for name in ENDING:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if for_good and number == signal.SIGINT else handler)


def ignore_interrupts() -> None:
    """Ignores Ctrl+C from here on: the program is ending, and another one would only print a traceback."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def status_of(status: int) -> int:
    """The exit status of a run that stopped with `status`: 128 and the signal's number where a signal asked for it."""
    return 128 + received[0] if received and status == 130 else status


def _interrupt(number: int, _: FrameType | None) -> None:
    if received:
        # The second signal: ends without waiting for anything that hangs.
        sys.exit(128 + number)
    received.append(number)
    raise KeyboardInterrupt
