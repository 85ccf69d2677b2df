"""The journal's file, written by one process: entries that belong together are synced together."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend


class JournalFile(JournalFileBackend):
    """Optuna's file of entries, which syncs after each of them: a trial has a dozen.

    Entries are written at once, so a kill of the process loses none. Inside `together` they are synced at the end, and
    those inside `later` with the next ones, so a power failure loses at most the trial that was being recorded and
    those that were requested after the last record.
    """

    def __init__(self, path: Path, lock: Any) -> None:
        super().__init__(str(path), lock_obj=lock)
        self._path = path
        self._depth = 0

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with self._path.open("ab") as file:
            file.write(text.encode())
            file.flush()
            if not self._depth:
                os.fsync(file.fileno())

    @contextmanager
    def later(self) -> Iterator[None]:
        """Entries of the `with` block are synced with the next ones."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1

    @contextmanager
    def together(self) -> Iterator[None]:
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if not self._depth:
                with self._path.open("ab") as file:
                    os.fsync(file.fileno())
