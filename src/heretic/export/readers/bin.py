"""Reads PyTorch's older `.bin` checkpoints, one file or several, memory mapped where the file allows it."""

import pickle
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from ...errors import ExportError
from ..companions import copy_companions
from .shards import ShardSet, add_key, check_index
from .tensors import TensorInfo


class BinReader:
    """A checkpoint of pickled tensors, loaded by `weights_only`: no code in it is run."""

    def __init__(self, directory: Path, shards: ShardSet) -> None:
        self._directory = directory
        self.directory: Path | None = directory
        self._file_of: dict[str, Path] = {}
        self._current: tuple[Path, dict[str, Tensor]] | None = None
        infos = []
        for path in shards.files:
            for key, tensor in self._open(path).items():
                add_key(self._file_of, key, path)
                infos.append(TensorInfo(key, tensor.dtype, tuple(tensor.shape)))
        check_index(shards, self._file_of)
        self._tensors = tuple(infos)

    def tensors(self) -> tuple[TensorInfo, ...]:
        return self._tensors

    def read(self, key: str) -> Tensor:
        return self._open(self._file_of[key])[key].detach()

    def write_companions(self, output: Path) -> None:
        copy_companions(self._directory, output)

    def _open(self, path: Path) -> dict[str, Tensor]:
        if self._current is None or self._current[0] != path:
            # Frees the last file before the next is loaded: a file that can't be mapped is in memory as a whole.
            self._current = None
            self._current = (path, _load(path))
        return self._current[1]


def _load(path: Path) -> dict[str, Tensor]:
    """The tensors of one file by name."""
    try:
        # Files written before PyTorch 1.6 are no zip archives, and can't be mapped.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ExportError(
            f"{path} should be a PyTorch file of tensors and can't be read as one ({reason}): it is damaged or holds "
            "more than tensors, download it again or use a safetensors checkpoint of this model"
        ) from error
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ExportError(
            f"{path} should hold a dictionary of tensors, got {type(content).__name__} with other things in it: "
            "use a checkpoint written by save_pretrained"
        )
    return dict(content)
