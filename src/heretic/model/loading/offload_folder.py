"""The temporary folder of offloaded weights: removed with the model, after a failure, and after a kill."""

import os
import shutil
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path

import psutil

PREFIX = "heretic-offload-"


class OffloadFolder:
    """A new folder with this process's ID in its name. Folders of killed processes are removed."""

    def __init__(self) -> None:
        remove_abandoned(Path(tempfile.gettempdir()))
        self.path = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-")

    def belongs_to(self, model: object) -> None:
        """Removes the folder when `model` is garbage-collected, or the program ends."""
        weakref.finalize(model, shutil.rmtree, self.path, True)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def remove_abandoned(place: Path) -> None:
    """Removes this user's folders whose process is gone."""
    for path in place.glob(f"{PREFIX}*"):
        number = path.name.removeprefix(PREFIX).partition("-")[0]
        gone = number.isdecimal() and not psutil.pid_exists(int(number))
        # Another run may be removing the same folder.
        with suppress(OSError):
            if gone and not path.is_symlink() and _is_own(path):
                shutil.rmtree(path, ignore_errors=True)


def _is_own(path: Path) -> bool:
    """Whether the path belongs to this user; on Windows, the temporary directory is the user's own."""
    return not hasattr(os, "getuid") or path.stat().st_uid == os.getuid()
