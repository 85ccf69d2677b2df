"""The model's files on an actor's machine: where the driver found them, or copied from the driver's."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock
from platformdirs import user_cache_path

from ...errors import ModelError
from ...files import write_atomically
from ...model.loading.checkpoint import Checkpoint, find_checkpoint, hub_name

PIECE = 32 << 20
"""Bytes of a file that are sent in one piece: several pieces fit the object store of any node."""
DONE = ".complete"

ReadPiece = Callable[[str, int, int], bytes]
"""Bytes of one of the driver's files: its name in the directory, offset and length."""


@dataclass(frozen=True, slots=True)
class FileSource:
    """The driver's checkpoint, its digest, its files with their sizes, and how to read them from elsewhere."""

    checkpoint: Checkpoint
    digest: str
    sizes: dict[str, int]
    read: ReadPiece


def file_source(checkpoint: Checkpoint, read: ReadPiece) -> FileSource:
    """Files of the checkpoint's directory, without subdirectories; for a GGUF file, that file alone."""
    paths = [each for each in sorted(checkpoint.directory.iterdir()) if each.is_file()]
    if checkpoint.gguf_file is not None:
        paths = [each for each in paths if each.name == checkpoint.gguf_file or each.suffix == ".json"]
    sizes = {path.name: path.stat().st_size for path in paths}
    return FileSource(checkpoint, checkpoint.digest(), sizes, read)


def checkpoint_here(source: FileSource, say: Callable[[str], None]) -> Checkpoint:
    """The checkpoint on this machine: in the same place (a shared disk), from the hub, or copied from the driver.

    Raises:
        ModelError: the files that arrived differ from the driver's.
    """
    there = source.checkpoint
    if there.directory.is_dir() and _is_same(there, source.digest):
        return there
    name = hub_name(there.name)
    if there.revision is not None and name is not None:
        try:
            found = find_checkpoint(there.name, there.revision)
        except ModelError:
            # This machine may have no access to the hub: the driver's files are copied instead.
            found = None
        if found is not None and _is_same(found, source.digest):
            return found
    return _copied(source, say)


def _is_same(checkpoint: Checkpoint, digest: str) -> bool:
    try:
        return checkpoint.digest() == digest
    except OSError:
        return False


def _copied(source: FileSource, say: Callable[[str], None]) -> Checkpoint:
    """A copy in the user's cache, made once on each machine."""
    directory = user_cache_path("heretic") / "models" / source.digest
    directory.mkdir(parents=True, exist_ok=True)
    copy = replace(source.checkpoint, directory=directory)
    with FileLock(directory.with_suffix(".lock")):
        if (directory / DONE).exists() and _is_same(copy, source.digest):
            return copy
        total, done = sum(source.sizes.values()), 0
        for name, size in source.sizes.items():
            for piece in _write(directory / name, source.read, name, size):
                done += piece
                say(f"copying the model: {done / max(1, total):.0%} of {total / 1e9:.1f} GB")
        if copy.digest() != source.digest:
            raise ModelError(
                f"Expected the driver's files of {copy.name} in {directory}, but others arrived: they changed during "
                "the copy. Run the same command again."
            )
        write_atomically(directory / DONE, b"")
    return copy


def _write(path: Path, read: ReadPiece, name: str, size: int) -> Iterator[int]:
    """Copies a file piece by piece; yields the size of each."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        for offset in range(0, size, PIECE):
            piece = read(name, offset, min(PIECE, size - offset))
            file.write(piece)
            yield len(piece)
    partial.replace(path)


def read_piece(directory: Path, name: str, offset: int, length: int) -> Any:
    """The bytes that a `ReadPiece` returns, read on the driver's machine."""
    with (directory / name).open("rb") as file:
        file.seek(offset)
        return file.read(length)
