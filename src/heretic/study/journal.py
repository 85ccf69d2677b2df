"""The file that a study lives in: opened by one process at a time, mended after a kill."""

import json
import re
import time
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..errors import StudyError


def study_path(directory: Path, model: str) -> Path:
    """The journal of a model: every character other than letters, digits, `_` and `-` becomes `--`."""
    # `\w` holds the letters of all alphabets: were these replaced too, models named in another one would share a file.
    name = re.sub(r"[^\w-]", "--", model)
    return directory / f"{name}.jsonl"


def repair(path: Path) -> int:
    """Cuts off a last line that a kill left unfinished; returns the number of bytes cut.

    Raises:
        StudyError: a line before the last is damaged: the file was changed by something else.
    """
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        if line.endswith(b"\n") and _is_entry(line):
            continue
        if number == len(lines):
            with path.open("r+b") as file:
                file.truncate(len(content) - len(line))
            return len(line)
        raise StudyError(
            f"Expected one JSON object a line in {path}, but line {number} of {len(lines)} is damaged "
            f"({line[:60]!r}). Restore the file from a copy, or start afresh with --resume restart, which keeps "
            "this file beside the new one."
        )
    return 0


def _is_entry(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def set_aside(path: Path) -> Path:
    """Renames a study's files, so that a new one can begin; returns the journal's new name."""
    stamp = time.strftime("%Y-%m-%dT%H-%M-%S", time.localtime(path.stat().st_mtime))
    target = path.with_name(f"{path.stem}.{stamp}.jsonl")
    count = 1
    while target.exists() or tensors_path(target).exists():
        count += 1
        target = path.with_name(f"{path.stem}.{stamp}-{count}.jsonl")
    path.rename(target)
    for beside in (tensors_path, figures_path, benchmarks_path, residuals_path):
        if beside(path).exists():
            beside(path).rename(beside(target))
    return target


def tensors_path(path: Path) -> Path:
    """The file beside a journal that holds the study's directions."""
    return path.with_suffix(".safetensors")


def figures_path(path: Path) -> Path:
    """The file beside a journal that holds what was measured at the end."""
    return path.with_suffix(".figures.json")


def benchmarks_path(path: Path) -> Path:
    """The file beside a journal that holds what benchmarks gave."""
    return path.with_suffix(".benchmarks.json")


def residuals_path(path: Path) -> Path:
    """The file beside a journal that holds figures of the residuals, once a report was made."""
    return path.with_suffix(".residuals.json")


class SingleWriter:
    """Holds a study for this process. The kernel drops the lock when the process dies, however it dies."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = FileLock(f"{path.absolute()}.lock")

    def acquire(self) -> None:
        """Raises:
        StudyError: another process holds the study.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise StudyError(
                f"The study {self._path} is in use by another heretic. Wait for it, stop it, or give this run a "
                "place of its own with --study-checkpoint-dir."
            ) from error

    def release(self) -> None:
        self._lock.release()

    def __enter__(self) -> "SingleWriter":
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def make_storage(path: Path) -> Any:
    """Optuna's storage over the journal; one process writes, so Optuna's own lock files, which a kill leaves behind,
    are not needed.

    Raises:
        StudyError: the file is no journal.
    """
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    lock: Any = _HeldAlready()
    try:
        return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
    # Optuna replays whatever stands in the file: these are what it stumbles with over lines that it did not write.
    except (ValueError, TypeError, KeyError, AssertionError) as error:
        raise StudyError(
            f"Expected the journal of a study in {path}, but it is another kind of file, or damaged ({error!r}). "
            "Name another file, or restore this one from a copy."
        ) from error


class _HeldAlready:
    """Optuna's lock protocol, for a process that is the only writer."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        return None
