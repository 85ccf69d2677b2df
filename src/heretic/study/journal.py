"""The journal file of a study: opened by one process at a time, repaired after a kill."""

import errno
import hashlib
import re
import time
import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from ..errors import StudyError
from ..files import expand_home, make_directory, parse_json

LONGEST_NAME = 120
"""Bytes of a study's name in UTF-8: file systems allow 255, and dates and suffixes follow."""


def study_path(directory: Path, model: str) -> Path:
    """The journal of a model: every character other than letters, digits, `_` and `-` becomes `--`.

    A model on disk has one name however its path is written: the path is resolved, and taken from the parent of
    `directory` where it lies below that. A journal that an earlier version named after the path as typed is found.
    """
    typed = directory / f"{_name(model)}.jsonl"
    local = expand_home(model)
    if not local.exists() or typed.exists():
        return typed
    resolved, base = local.resolve(), expand_home(directory).resolve().parent
    below = resolved.relative_to(base) if resolved.is_relative_to(base) and resolved != base else resolved
    return directory / f"{_name(str(below))}.jsonl"


def _name(model: str) -> str:
    """A file's name for a model, cut to a length that all file systems take."""
    # `\w` holds the letters of all alphabets: were these replaced too, models named in another one would share a file.
    name = re.sub(r"[^\w-]", "--", model)
    if len(name.encode()) <= LONGEST_NAME:
        return name
    # The end of a path says most; the digest distinguishes paths whose ends are equal.
    end = name.encode()[-(LONGEST_NAME - 10) :].decode(errors="ignore")
    return f"{hashlib.sha256(name.encode()).hexdigest()[:8]}--{end.lstrip('-')}"


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
            f"({line[:60]!r}). Restore the file from a copy, or begin a new study with --resume restart, which keeps "
            "this file next to the new one."
        )
    return 0


def _is_entry(line: bytes) -> bool:
    try:
        return isinstance(parse_json(line), dict)
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
    for sidecar in (tensors_path, store_path, heldout_path, old_heldout_path, benchmarks_path, residuals_path):
        if sidecar(path).exists():
            sidecar(path).rename(sidecar(target))
    return target


def tensors_path(path: Path) -> Path:
    """The file of the study's directions, next to its journal."""
    return path.with_suffix(".safetensors")


def store_path(path: Path) -> Path:
    """The folder next to a journal with the tensors that trials refer to by digest."""
    return path.with_suffix(".tensors")


def heldout_path(path: Path) -> Path:
    """The file of the held-out report, next to the journal."""
    return path.with_suffix(".heldout.json")


def old_heldout_path(path: Path) -> Path:
    """The former name of that file, which is still read."""
    return path.with_suffix(".figures.json")


def benchmarks_path(path: Path) -> Path:
    """The file of benchmark results, next to the journal."""
    return path.with_suffix(".benchmarks.json")


def residuals_path(path: Path) -> Path:
    """The file of residual metrics, next to the journal, once a report was made."""
    return path.with_suffix(".residuals.json")


NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL}


class SingleWriter:
    """Holds a study for this process. The kernel drops the lock when the process dies, however it dies."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock: BaseFileLock = FileLock(f"{path.absolute()}.lock")

    def acquire(self) -> None:
        """Raises:
        StudyError: another process holds the study.
        """
        make_directory(self._path.parent)
        try:
            self._acquire()
        except Timeout as error:
            raise StudyError(
                f"The study {self._path} is in use by another heretic. Wait for it, stop it, or give this run a "
                f"place of its own with --study-checkpoint-dir. If no heretic runs, remove {self._lock.lock_file}."
            ) from error

    def _acquire(self) -> None:
        try:
            # The library falls back to a lock file where it can, and warns; any kind of lock is enough here.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                self._lock.acquire(timeout=0)
        except (NotImplementedError, OSError) as error:
            if isinstance(error, Timeout) or (isinstance(error, OSError) and error.errno not in NO_LOCKS):
                raise
            # Some network file systems have no locks: a lock file is used instead, though it survives a kill.
            self._lock = SoftFileLock(f"{self._path.absolute()}.lock-file")
            self._lock.acquire(timeout=0)

    def release(self) -> None:
        self._lock.release()

    def __enter__(self) -> "SingleWriter":
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def make_storage(path: Path) -> Any:
    """Optuna's storage over the journal; one process writes, so Optuna's own lock files, which survive a kill,
    are not needed.

    Raises:
        StudyError: the file is no journal.
    """
    from .journal_file import JournalFile
    from .journal_storage import IndexedJournal

    try:
        return IndexedJournal(JournalFile(path, _HeldAlready()))
    except OSError:
        raise
    # Optuna replays every line of the file, and raises all kinds of errors at lines that it did not write.
    except Exception as error:
        raise StudyError(
            f"Expected the journal of a study in {path}, but it is another kind of file, or damaged ({error!r}). "
            "Name another file, or restore this one from a copy."
        ) from error


def synced_together(study: Any) -> AbstractContextManager[None]:
    """Syncs the study's entries once, at the end of the `with` block, if it is stored in a journal."""
    file = getattr(study._storage, "_backend", None)
    together = getattr(file, "together", None)
    return nullcontext() if together is None else together()


def synced_later(study: Any) -> AbstractContextManager[None]:
    """Leaves the study's entries of the `with` block to the next sync, if it is stored in a journal."""
    file = getattr(study._storage, "_backend", None)
    later = getattr(file, "later", None)
    return nullcontext() if later is None else later()


class _HeldAlready:
    """Optuna's lock protocol, for a process that is the only writer."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        return None
