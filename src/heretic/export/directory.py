"""A directory that appears complete or not at all."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from ..errors import ExportError
from ..files import sync_path

SLACK = 16 * 2**20
"""Room for what is not weights: tokenizer, configuration, the file system's own tables."""


def check_output(output: Path) -> None:
    """Makes sure that nothing is in the way.

    Raises:
        ExportError: `output` exists, or what should be its parent is a file.
    """
    if os.path.lexists(output):
        raise ExportError(f"{output} exists already and is not overwritten: name a new directory, or remove this one")
    for parent in output.absolute().parents:
        if parent.exists():
            if not parent.is_dir():
                raise ExportError(f"{output} can't be created, since {parent} is a file: name another directory")
            return


def check_space(directory: Path, planned: int) -> None:
    """Compares free space with what will be written.

    Raises:
        ExportError: it does not fit.
    """
    free = shutil.disk_usage(directory).free
    if free < planned + SLACK:
        raise ExportError(
            f"the export needs {(planned + SLACK) / 1e9:.2f} GB and the disk of {directory} has {free / 1e9:.2f} GB "
            "free: make room, or name a directory on another disk"
        )


@contextmanager
def new_directory(output: Path) -> Iterator[Path]:
    """A hidden sibling directory to fill, which takes the name `output` when the block ends without an exception.

    A killed process leaves only the hidden directory, which no program takes for a model; the next call removes it.

    Raises:
        ExportError: `output` exists, is being written by another process, can't be created, or the disk is full.
    """
    check_output(output)
    output = output.absolute()
    partial = output.parent / f".{output.name}.partial-{os.getpid()}"
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(output)
        partial.mkdir()
    except OSError as error:
        raise ExportError(f"{output} can't be created ({error}): name a directory that you may write to") from error
    try:
        yield partial
        _sync(partial)
        check_output(output)
        partial.rename(output)
        sync_path(output.parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ExportError(
                f"the disk filled up while {output} was being written, and what was written has been removed: "
                "make room, or name a directory on another disk"
            ) from error
        raise
    finally:
        # After success the name is gone, and there is nothing to remove.
        shutil.rmtree(partial, ignore_errors=True)


def _remove_stale(output: Path) -> None:
    """Removes the incomplete directories of killed exports to `output`."""
    prefix = f".{output.name}.partial-"
    for path in output.parent.iterdir():
        pid = path.name.removeprefix(prefix)
        if not path.name.startswith(prefix) or not pid.isdecimal():
            continue
        if _is_being_written(path, int(pid)):
            raise ExportError(f"process {pid} is writing {output} now: wait until it has finished, or name another")
        shutil.rmtree(path)


def _is_being_written(path: Path, pid: int) -> bool:
    """Whether the process that began `path` still runs.

    Numbers come round again, in containers at once: a process younger than the directory did not begin it.
    """
    try:
        process = psutil.Process(pid)
        # A killed process keeps its number until its parent asks after it.
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= path.stat().st_mtime
    except psutil.NoSuchProcess:
        return False


def _sync(directory: Path) -> None:
    """Puts every file on the disk before the directory gets its name; best effort where the file system can't."""
    for path in sorted(directory.rglob("*"), reverse=True):
        sync_path(path)
    sync_path(directory)
