"""Tensors that trials refer to by digest, in a folder next to the study's journal."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ..errors import StudyError
from ..files import write_atomically
from ..study.journal import store_path


class TensorStore(Mapping[str, Mapping[str, Tensor]]):
    """Groups of tensors by the digest of their content, so equal groups share one file and no file changes."""

    def __init__(self, journal: Path) -> None:
        self._folder = store_path(journal)

    def write(self, tensors: Mapping[str, Tensor]) -> str:
        """Writes the tensors, and returns the digest that reads them."""
        content = save({name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())})
        digest = _digest(content)
        path = self._path(digest)
        if not path.exists():
            self._folder.mkdir(exist_ok=True)
            write_atomically(path, content)
        return digest

    def __getitem__(self, digest: str) -> Mapping[str, Tensor]:
        """Raises:
        StudyError: there is no file of this digest, or its content has another one.
        """
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
            return load(content)
        except SafetensorError as error:
            raise StudyError(f"Expected a file of safetensors in {path}, found another ({error}).") from error

    def __iter__(self) -> Iterator[str]:
        return (path.stem for path in sorted(self._folder.glob("*.safetensors")))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest}.safetensors"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
