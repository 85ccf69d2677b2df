"""Tensors that trials refer to by digest, in a folder next to the study's journal."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ..ablation.parameters import AblationParameters
from ..errors import StudyError
from ..files import write_atomically
from ..study.journal import store_path

STATE = "path.state"
"""The file of a path's state, which is overwritten and not named by a digest."""


class TensorStore(Mapping[str, Mapping[str, Tensor]]):
    """Groups of tensors by the digest of their content, so equal groups share one file and no file changes."""

    def __init__(self, journal: Path) -> None:
        self._folder = store_path(journal)
        self._last: tuple[str, Mapping[str, Tensor]] | None = None

    def write(self, tensors: Mapping[str, Tensor]) -> str:
        """Writes the tensors, and returns their digest, which is their key."""
        content = save({name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())})
        digest = _digest(content)
        path = self._path(digest)
        if not path.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content)
        return digest

    def __getitem__(self, digest: str) -> Mapping[str, Tensor]:
        """Raises:
        StudyError: there is no file of this digest, or its content has another one.
        """
        if self._last is not None and self._last[0] == digest:
            return self._last[1]
        path = self._path(digest)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise StudyError(
                f"Expected the tensors of a trial in {path}, could not read them ({error}). Restore the folder from a "
                "copy: it belongs to the study's journal."
            ) from error
        if _digest(content) != digest:
            raise StudyError(
                f"Expected tensors with the digest {digest} in {path}, found {_digest(content)}: the file is damaged. "
                "Restore it from a copy, or choose another trial."
            )
        try:
            self._last = digest, load(content)
        except SafetensorError as error:
            raise StudyError(f"Expected a file of safetensors in {path}, found another ({error}).") from error
        return self._last[1]

    def write_state(self, state: Mapping[str, Tensor]) -> None:
        """Replaces the state that `read_state` reads."""
        self._folder.mkdir(exist_ok=True)
        content = save({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()})
        write_atomically(self._folder / STATE, content)

    def read_state(self) -> Mapping[str, Tensor] | None:
        """The state that the next trials depend on in addition to the journal; None if none was written.

        Raises:
            StudyError: the file is damaged.
        """
        path = self._folder / STATE
        if not path.exists():
            return None
        try:
            return load(path.read_bytes())
        except (OSError, SafetensorError) as error:
            raise StudyError(
                f"Expected the state of a learned path in {path}, could not read it ({error}). Restore it from a copy, "
                "or remove it: the path is then learned again from its beginning."
            ) from error

    def __iter__(self) -> Iterator[str]:
        return (path.stem for path in sorted(self._folder.glob("*.safetensors")))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest}.safetensors"


def copy_tensors(parameters: AblationParameters, store: Mapping[str, Mapping[str, Tensor]], record: Path) -> None:
    """Copies the tensors that a candidate names to the store next to another record.

    Raises:
        StudyError: they are not in `store`.
    """
    for digest in parameters.digests:
        TensorStore(record).write(store[digest])


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
