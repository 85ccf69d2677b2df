"""The progress of a download from the hub, measured by the growth of the hub's cache."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...events import Progress, Reporter

MEGABYTE = 10**6
SHOWN = 10 * MEGABYTE
"""Smaller downloads are over before a bar could be read."""
SECONDS_BETWEEN = 0.5


@contextmanager
def shown_download(title: str, repository: str, revision: str | None, reporter: "Reporter | None") -> Iterator[None]:
    """Inside the `with` block, a step of the reporter counts the megabytes of a repository in the hub's cache."""
    missing = 0 if reporter is None else _missing(title, revision)
    if reporter is None or missing < SHOWN:
        yield
        return
    total = missing // MEGABYTE
    with reporter.step(f"Fetching {title} (MB)", total) as progress, _watched(cache_of(repository), total, progress):
        yield


def _missing(name: str, revision: str | None) -> int:
    from .size import model_size

    size = model_size(name, revision)
    return 0 if size is None else size.missing


def cache_of(repository: str) -> Path:
    """The directory of the hub's cache for a repository, with its finished and unfinished files."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type="model")


def bytes_in(directory: Path) -> int:
    """Bytes of the files below a directory; links count nothing."""
    found = 0
    for path in directory.rglob("*"):
        try:
            found += 0 if path.is_symlink() or path.is_dir() else path.stat().st_size
        except OSError:
            # An unfinished file has just been renamed to its final name.
            continue
    return found


@contextmanager
def _watched(directory: Path, total: int, progress: "Progress") -> Iterator[None]:
    before, ended = bytes_in(directory), threading.Event()

    def watch() -> None:
        shown = 0
        while not ended.wait(SECONDS_BETWEEN):
            arrived = min((bytes_in(directory) - before) // MEGABYTE, total)
            if arrived > shown:
                progress(arrived - shown)
                shown = arrived

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
