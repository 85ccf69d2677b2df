"""Reads safetensors checkpoints, one file or several, memory mapped."""

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...errors import ExportError
from ..companions import copy_companions
from .shards import ShardSet, add_key, check_index
from .tensors import DTYPES, TensorInfo


class SafetensorsReader:
    """A safetensors checkpoint; `read` maps the tensor's pages and copies nothing."""

    def __init__(self, directory: Path, shards: ShardSet) -> None:
        self._directory = directory
        self.directory: Path | None = directory
        self._file_of: dict[str, Path] = {}
        self._current: tuple[Path, Any] | None = None
        infos = []
        for path in shards.files:
            file = self._open(path)
            for key in file.offset_keys():
                add_key(self._file_of, key, path)
                infos.append(_info(file, key, path))
        check_index(shards, self._file_of)
        self._tensors = tuple(infos)

    def tensors(self) -> tuple[TensorInfo, ...]:
        return self._tensors

    def read(self, key: str) -> Tensor:
        tensor: Tensor = self._open(self._file_of[key]).get_tensor(key)
        return tensor

    def write_companions(self, output: Path) -> None:
        copy_companions(self._directory, output)

    def _open(self, path: Path) -> Any:
        # Only the latest file stays open: the pages of all shards together would crowd out everything else.
        if self._current is None or self._current[0] != path:
            try:
                self._current = (path, safe_open(path, framework="pt"))
            except (SafetensorError, OSError) as error:
                raise ExportError(
                    f"{path} should be a safetensors file and can't be read as one ({error}): it is damaged or was not "
                    "downloaded to its end, download it again"
                ) from error
        return self._current[1]


def _info(file: Any, key: str, path: Path) -> TensorInfo:
    piece = file.get_slice(key)
    name = piece.get_dtype()
    if name not in DTYPES:
        raise ExportError(
            f"{key} in {path} is stored as {name}, a type that can't be written back: "
            f"use a checkpoint of this model in one of {', '.join(DTYPES)}"
        )
    return TensorInfo(key, DTYPES[name], tuple(piece.get_shape()))
