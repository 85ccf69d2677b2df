"""ggml's quantiser, from the shared library of an installed package.

The gguf package reads all types and writes few. ggml itself writes them all, and several packages contain it; its
function is called through ctypes, so that none of them is imported.
"""

import ctypes
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

PACKAGES = ("xllamacpp", "pywhispercpp", "llama-cpp-python", "ggml-python")
"""Packages on the Python index whose wheels contain ggml, in the order of preference: the most recent ggml first."""

LIBRARY = re.compile(r"(^|/)(lib)?(ggml-base|ggml|xllamacpp)[^/]*\.(so|dylib|dll|pyd)[\d.]*$")
SYMBOLS = ("ggml_quantize_chunk", "ggml_quantize_requires_imatrix")


class Ggml:
    """The quantiser of one shared library."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._quantize = library.ggml_quantize_chunk
        pointer = ctypes.c_void_p
        # type, source, destination, first value, rows, values a row, importance of each column or none
        self._quantize.argtypes = [ctypes.c_int, pointer, pointer, *[ctypes.c_int64] * 3, pointer]
        self._quantize.restype = ctypes.c_size_t
        self._needs_importance = library.ggml_quantize_requires_imatrix
        self._needs_importance.argtypes = [ctypes.c_int]
        self._needs_importance.restype = ctypes.c_bool

    def needs_importance(self, kind: GGMLQuantizationType) -> bool:
        """Whether the type can't be quantised without an importance of each column."""
        return bool(self._needs_importance(kind))

    def quantize(self, rows: np.ndarray, kind: GGMLQuantizationType, importance: np.ndarray | None) -> np.ndarray:
        """The blocks (rows, bytes) of fp32 `rows` (rows, columns); `importance` has one value a column."""
        rows = np.ascontiguousarray(rows, dtype=np.float32)
        block, block_bytes = GGML_QUANT_SIZES[kind]
        count, columns = rows.shape
        assert columns % block == 0, f"{columns} columns are no multiple of the {block} of a block of {kind.name}"
        blocks = np.empty((count, columns // block * block_bytes), dtype=np.uint8)
        weights = None if importance is None else np.ascontiguousarray(importance, dtype=np.float32)
        assert weights is None or weights.shape == (columns,)

        def run(start: int, stop: int) -> int:
            # ctypes releases the lock of the interpreter; each row is quantised by itself.
            part, into = rows[start:stop].ctypes.data, blocks[start:stop].ctypes.data
            pointer = None if weights is None else weights.ctypes.data
            return int(self._quantize(kind, part, into, 0, stop - start, columns, pointer))

        threads = min(torch.get_num_threads(), count)
        ends = [count * number // threads for number in range(threads + 1)]
        with ThreadPoolExecutor(threads) as pool:
            written = sum(pool.map(run, ends[:-1], ends[1:]))
        assert written == blocks.nbytes, f"ggml wrote {written} bytes where {blocks.nbytes} were expected"
        return blocks


@cache
def find_ggml() -> Ggml | None:
    """The quantiser of the first installed package that contains one; None where there is none."""
    for path in _libraries():
        try:
            library = ctypes.CDLL(str(path))
        except OSError:
            # It needs libraries that are not on this machine, as wheels for a GPU do.
            continue
        if all(hasattr(library, symbol) for symbol in SYMBOLS):
            return Ggml(library)
    return None


def _libraries() -> Iterator[Path]:
    """Shared libraries of the packages that may contain ggml."""
    for package in PACKAGES:
        try:
            files = metadata.files(package) or []
        except metadata.PackageNotFoundError:
            continue
        found = [file for file in files if LIBRARY.search(file.as_posix())]
        # The part with the quantiser is libggml-base; the others would be loaded for nothing.
        for file in sorted(found, key=lambda file: ("base" not in file.name, str(file))):
            yield Path(str(file.locate()))
