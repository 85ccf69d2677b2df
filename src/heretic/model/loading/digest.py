"""Digest of all bytes of a checkpoint's weights, configuration and code, computed once for unchanged files."""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from ...files import parse_json, write_atomically
from .checkpoint import Checkpoint

READERS = 4
"""Files that are read at the same time: more exceed the bandwidth of disks and memory; each keeps one core busy."""
SETTLED = 2.0
"""Seconds after a file's last change from which its times reveal another change: file systems' clocks are coarse."""
MOST_FILES = 2000
"""Files whose digests are kept; beyond them, those computed longest ago are removed."""

_AHEAD: dict[Path, threading.Thread] = {}
"""Threads that read a checkpoint's files, by its directory."""


def whole_digest(checkpoint: Checkpoint, progress: Callable[[int], None] = lambda _: None) -> str:
    """SHA-256 over the names and all bytes of the weight files, config.json and the Python files next to it.

    A file's own digest is kept in the user's cache directory under its path, size, times and inode, so an unchanged
    file is read once. `progress` is called with 1 after each file.
    """
    kept = _read_kept()
    paths = covered_files(checkpoint)

    def of(path: Path) -> tuple[str, str]:
        key = _key(path)
        found = kept.get(key) or _sha256(path)
        progress(1)
        return key, found

    with ThreadPoolExecutor(READERS) as pool:
        digests = list(pool.map(of, paths))
    _keep(kept, {key: digest for path, (key, digest) in zip(paths, digests, strict=True) if _is_settled(path)})
    whole = hashlib.sha256()
    for path, (_, digest) in zip(paths, digests, strict=True):
        whole.update(f"{path.name}\0{digest}\n".encode())
    return whole.hexdigest()


def digest_ahead(checkpoint: Checkpoint) -> None:
    """Begins to read the files in another thread, for a `whole_digest` that follows; an error is raised there."""

    def read() -> None:
        with suppress(OSError):
            whole_digest(checkpoint)

    thread = threading.Thread(target=read, daemon=True)
    _AHEAD[checkpoint.directory] = thread
    thread.start()


def covered_files(checkpoint: Checkpoint) -> list[Path]:
    """The files that the digest covers, in order."""
    names = set(checkpoint.weight_files())
    if checkpoint.gguf_file is None:
        names |= {path.name for path in checkpoint.directory.glob("*.py")}
        names |= {"config.json"} if (checkpoint.directory / "config.json").is_file() else set()
    return [checkpoint.directory / name for name in sorted(names)]


def unread_bytes(checkpoint: Checkpoint) -> int:
    """Bytes of the files whose digests are not kept; waits for `digest_ahead`."""
    ahead = _AHEAD.pop(checkpoint.directory, None)
    if ahead is not None:
        ahead.join()
    kept = _read_kept()
    return sum(path.stat().st_size for path in covered_files(checkpoint) if _key(path) not in kept)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _key(path: Path) -> str:
    """The identity of a file's content, without reading it. A change in place updates its times, and no program can set
    the change time (ctime)."""
    real = path.resolve()
    stat = real.stat()
    return f"{real}\0{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"


def _is_settled(path: Path) -> bool:
    stat = path.stat()
    return time.time() - max(stat.st_mtime, stat.st_ctime) > SETTLED


def _kept_path() -> Path:
    return user_cache_path("heretic") / "digests.json"


def _read_kept() -> dict[str, str]:
    try:
        content: Any = parse_json(_kept_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    entries = content.items() if isinstance(content, dict) else ()
    return {key: value for key, value in entries if isinstance(value, str)}


def _keep(kept: Mapping[str, str], new: Mapping[str, str]) -> None:
    """Adds `new` digests to the cache; if it can't be written, the files are read again the next time."""
    if all(kept.get(key) == value for key, value in new.items()):
        return
    entries = dict(_without(kept, new)) | dict(new)
    with suppress(OSError):
        write_atomically(_kept_path(), json.dumps(dict(list(entries.items())[-MOST_FILES:]), indent=0).encode())


def _without(kept: Mapping[str, str], new: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The cached entries of other files."""
    paths = {key.partition("\0")[0] for key in new}
    return ((key, value) for key, value in kept.items() if key.partition("\0")[0] not in paths)
