"""Files that are whole or not there, and the JSON in them."""

import errno
import json
import os
import tempfile
from pathlib import Path
from typing import Any

UNSYNCED = {errno.EINVAL, errno.EACCES, errno.EPERM, errno.EBADF, errno.EISDIR, errno.ENOTSUP, errno.ENOSYS}
"""Errors of file systems that can't sync a directory or a file opened for reading: exFAT, SMB, FUSE, Windows."""


def expand_home(path: str | Path) -> Path:
    """The path with the home directory for a leading `~`; a name such as ~NAME without that user stays as it is."""
    # `Path.expanduser` raises RuntimeError for an unknown user.
    return Path(os.path.expanduser(path))  # noqa: PTH111


def make_directory(path: Path) -> None:
    """Makes a directory with its parents, if it is not there.

    Raises:
        NotADirectoryError: a file has its name.
        PermissionError: nothing can be made there.
        OSError: the disk is full, or fails.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from error
    # What /proc and some network drives say.
    except FileNotFoundError as error:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path)) from error


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file next to `path`, syncs it, and renames it into place; the file's mode follows the user's umask."""
    make_directory(path.parent)
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.")
    except FileNotFoundError as error:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path)) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            sync(file.fileno())
        # A temporary file is private; this one is as readable as any that the user writes.
        Path(name).chmod(0o666 & ~_umask())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_path(path.parent)


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text that anybody may have written.

    Raises:
        ValueError: it is no JSON, or its lists and objects are nested too deeply to be read.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("its lists and objects are nested too deeply") from error


def sync(descriptor: int) -> bool:
    """Puts an open file on the disk; False where the file system can't sync it.

    Raises:
        OSError: the disk is full, or fails.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNSYNCED:
            raise
        return False
    return True


def sync_path(path: Path) -> bool:
    """Puts a file or the entries of a directory on the disk; False where the system can't.

    Files are opened for writing, since Windows syncs no other handle; it opens no directory at all.

    Raises:
        OSError: the disk is full, or fails.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    except OSError as error:
        if error.errno not in UNSYNCED:
            raise
        return False
    try:
        return sync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    """The user's umask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
