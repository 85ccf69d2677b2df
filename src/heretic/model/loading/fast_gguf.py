"""Faster reading of GGUF files by transformers, with the same content: each file once, as plain arrays.

To load one file, transformers opens it four times, makes some hundred thousand slices of a `np.memmap` each time, and
builds the same table of names for every module.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGUFReader, GGUFValueType

from .checkpoint import gguf_parts

Parts = tuple[int, list[Any], list[int], list[GGUFValueType]]


class FastGGUFReader(GGUFReader):
    """A GGUFReader with the same fields and tensors, as plain arrays over the mapped file."""

    def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> Any:
        if "_plain" not in self.__dict__:
            # A slice of a memmap costs ten times that of an array.
            self._plain = np.asarray(self.data).view(np.ndarray)
        size = np.dtype(dtype).itemsize * int(count)
        array = self._plain[offset : offset + size].view(dtype)
        return array.view(array.dtype.newbyteorder(self.byte_order if override_order is None else override_order))

    def _get_field_parts(self, orig_offs: int, raw_type: int) -> Parts:
        if raw_type != GGUFValueType.ARRAY:
            return super()._get_field_parts(orig_offs, raw_type)
        kind, count = self._get(orig_offs, np.uint32), self._get(orig_offs + 4, np.uint64)
        element = GGUFValueType(kind[0])
        if element == GGUFValueType.STRING:
            elements, end = self._strings(orig_offs + 12, int(count[0]))
            indices = list(range(3, 3 + len(elements), 2))
        elif element in self.gguf_scalar_to_np:
            values = self._get(orig_offs + 12, self.gguf_scalar_to_np[element], count[0])
            elements, end = [values[i : i + 1] for i in range(len(values))], orig_offs + 12 + values.nbytes
            indices = list(range(2, 2 + len(elements)))
        else:
            return super()._get_field_parts(orig_offs, raw_type)
        types = [GGUFValueType.ARRAY, element] if indices else [GGUFValueType.ARRAY]
        return end - orig_offs, [kind, count, *elements], indices, types

    def _strings(self, start: int, count: int) -> tuple[list[Any], int]:
        """Length and bytes of each string, and the offset after the last one."""
        dtype = np.dtype(np.uint64).newbyteorder(self.byte_order)
        lengths = struct.Struct(f"{'<' if self.endianess == gguf.GGUFEndian.LITTLE else '>'}Q")
        content = self._plain.data
        parts = []
        for _ in range(count):
            (length,) = lengths.unpack_from(content, start)
            end = start + 8 + length
            parts += [self._plain[start : start + 8].view(dtype), self._plain[start + 8 : end]]
            start = end
        return parts, start


class SplitGGUFReader(FastGGUFReader):
    """A reader of the first part of a split file, with the tensors of all parts.

    The parts are read one by one: `parts` has a reader for each, with its own header.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        files = [FastGGUFReader(part) for part in gguf_parts(path)[1:]]
        self.parts: list[GGUFReader] = [FastGGUFReader(path), *files]
        self.tensors = [tensor for part in self.parts for tensor in part.tensors]


def open_gguf(path: Path) -> GGUFReader:
    """A reader of a GGUF file, or of the split file whose first part it is."""
    return FastGGUFReader(path) if len(gguf_parts(path)) == 1 else SplitGGUFReader(path)


@contextmanager
def fast_gguf() -> Iterator[None]:
    """Makes transformers open each GGUF file once, with all its parts, and build each table of names once, inside the
    `with` block."""
    if gguf.GGUFReader is not GGUFReader:
        # Already open.
        yield
        return
    read = cache(open_gguf)

    def reader(path: str | PathLike[str], mode: Any = "r") -> GGUFReader:
        return read(Path(path).resolve()) if mode == "r" else GGUFReader(path, mode)

    tables = gguf.get_tensor_name_map
    # transformers imports both from the package at each call.
    gguf.GGUFReader, gguf.get_tensor_name_map = reader, cache(tables)  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        gguf.GGUFReader, gguf.get_tensor_name_map = GGUFReader, tables  # type: ignore[misc]
