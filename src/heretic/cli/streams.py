"""Standard streams that never end a run: closed ones, ended pipes, and terminals with few characters."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

GONE = (OSError, ValueError)
"""Errors of a write to a closed pipe, terminal or file."""


class LastingStream:
    """A text stream that discards output after its reader is gone, instead of raising; it wraps another stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._gone = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        if not self._gone:
            try:
                self._stream.write(text)
            except GONE:
                self._leave()
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if not self._gone:
            try:
                self._stream.flush()
            except GONE:
                self._leave()

    def _leave(self) -> None:
        """Discards the stream's buffer, so that the interpreter's own flush raises nothing."""
        self._gone = True
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        except GONE:
            pass


@contextmanager
def lasting_streams() -> Iterator[None]:
    """Replaces the standard streams inside the `with` block by ones that never raise; characters that a stream's
    encoding lacks are replaced."""
    before = sys.stdin, sys.stdout, sys.stderr
    nowhere = open(os.devnull, "r+", encoding="utf-8")  # noqa: PTH123, SIM115
    if sys.stdin is None:
        sys.stdin = nowhere
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            stream = nowhere
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
        setattr(sys, name, LastingStream(stream))
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdin, sys.stdout, sys.stderr = before
        nowhere.close()
