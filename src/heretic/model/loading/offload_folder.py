"""The temporary folder of weights that fit on no device: gone with the model, after a failure, and after a kill."""

import os
import shutil
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path

import psutil

PREFIX = "heretic-offload-"


class OffloadFolder:
    """A new folder, whose name has the number of this process. Those of processes that were killed are removed."""

    def __init__(self) -> None:
        remove_abandoned(Path(tempfile.gettempdir()))
        self.path = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-")

    def belongs_to(self, model: object) -> None:
        """The folder goes when `model` is collected, or the program ends."""
        weakref.finalize(model, shutil.rmtree, self.path, True)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def remove_abandoned(place: Path) -> None:
    """Removes this user's folders whose process is gone."""
    for path in place.glob(f"{PREFIX}*"):
        number = path.name.removeprefix(PREFIX).partition("-")[0]
        gone = number.isdecimal() and not psutil.pid_exists(int(number))
        # Another run may remove the same folder at this moment.
        with suppress(OSError):
            if gone and not path.is_symlink() and _is_own(path):
                shutil.rmtree(path, ignore_errors=True)


def _is_own(path: Path) -> bool:
    """Whether the path is this user's; on Windows, the temporary directory itself is."""
    return not hasattr(os, "getuid") or path.stat().st_uid == os.getuid()
