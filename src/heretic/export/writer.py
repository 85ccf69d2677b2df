"""Writes safetensors checkpoints of any size: the plan first, then the tensors one by one.

Format: 8 bytes header length, a JSON header (dtype, shape and byte range of each tensor), the bytes
(https://huggingface.co/docs/safetensors, "Format").
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..errors import ExportError
from .directory import check_space
from .readers.tensors import DTYPE_NAMES, TensorInfo, raw_bytes

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


@dataclass(frozen=True, slots=True)
class Shard:
    """One planned file: its header, and where in the file each tensor's bytes begin."""

    name: str
    header: bytes
    starts: dict[str, int]


class CheckpointWriter:
    """Writes planned tensors in any order; each needs no memory beyond its own.

    Raises:
        ExportError: the tensors don't fit on the disk.
    """

    def __init__(self, directory: Path, tensors: Sequence[TensorInfo], max_shard_size: int | str = "5GB") -> None:
        check_space(directory, sum(info.nbytes for info in tensors))
        self._directory = directory
        self._missing = {info.key: info for info in tensors}
        self._size = sum(info.nbytes for info in tensors)
        self._shards = plan_shards(tensors, parse_size(max_shard_size))
        self._shard_of = {key: shard for shard in self._shards for key in shard.starts}
        for shard in self._shards:
            (directory / shard.name).write_bytes(shard.header)

    def add(self, key: str, tensor: Tensor) -> None:
        """Writes one tensor at its planned place."""
        info = self._missing.pop(key)
        assert (tensor.dtype, tuple(tensor.shape)) == (info.dtype, info.shape), f"{key} is not what was planned: {info}"
        shard = self._shard_of[key]
        with (self._directory / shard.name).open("r+b") as file:
            file.seek(shard.starts[key])
            file.write(raw_bytes(tensor))

    def finish(self) -> None:
        """Writes the index, if there are several files."""
        assert not self._missing, f"planned but never written: {sorted(self._missing)[:3]}"
        if len(self._shards) == 1:
            return
        index = {
            "metadata": {"total_size": self._size},
            "weight_map": {key: shard.name for key, shard in self._shard_of.items()},
        }
        text = json.dumps(index, indent=2) + "\n"
        (self._directory / "model.safetensors.index.json").write_text(text, encoding="utf-8")


def plan_shards(tensors: Sequence[TensorInfo], max_bytes: int) -> tuple[Shard, ...]:
    """The files for `tensors` in order, each at most `max_bytes` of weights (a larger tensor has one for itself)."""
    groups: list[list[TensorInfo]] = [[]]
    size = 0
    for info in tensors:
        if groups[-1] and size + info.nbytes > max_bytes:
            groups.append([])
            size = 0
        groups[-1].append(info)
        size += info.nbytes
    if len(groups) == 1:
        return (_shard("model.safetensors", groups[0]),)
    return tuple(
        _shard(f"model-{number:05d}-of-{len(groups):05d}.safetensors", group)
        for number, group in enumerate(groups, start=1)
    )


def parse_size(size: int | str) -> int:
    """Bytes, from a number or a text such as "5GB" (decimal) or "4GiB" (binary).

    Raises:
        ExportError: the text is no size, or the size is not positive.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Z]*)", str(size).strip().upper())
    parsed = int(float(match[1]) * UNITS[match[2]]) if match and match[2] in UNITS else 0
    if parsed <= 0:
        raise ExportError(f'max_shard_size should be a size such as "5GB" or "500MB", got {size!r}')
    return parsed


def _shard(name: str, tensors: Sequence[TensorInfo]) -> Shard:
    # Widest types first, so that each tensor begins at a multiple of its element size: readers map it as it lies.
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offsets: dict[str, int] = {}
    end = 0
    for info in sorted(tensors, key=lambda info: -info.dtype.itemsize):
        begin, end = end, end + info.nbytes
        offsets[info.key] = begin
        dtype = DTYPE_NAMES[info.dtype]
        entries[info.key] = {"dtype": dtype, "shape": info.shape, "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    header = len(text).to_bytes(8, "little") + text
    return Shard(name, header, {key: len(header) + begin for key, begin in offsets.items()})
