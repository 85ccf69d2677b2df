"""The importance matrix of llama.cpp's llama-imatrix: how much each column of a weight matters, from activations.

Two forms are read. A GGUF file has for each weight the sums of squared activations, `NAME.in_sum2`, and the number of
tokens, `NAME.counts`. The older .dat has a number of entries and, of each, name, calls, values: 32-bit integers and
floats, little-endian. (llama.cpp, tools/imatrix)
"""

import struct
from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np

from ...errors import ExportError

MOST = 1 << 20
"""Entries and bytes of a name in a .dat beyond which it is taken for another kind of file."""


class ImportanceMatrix:
    """Importances by the name of a file's tensor."""

    def __init__(self, path: Path, entries: Mapping[str, np.ndarray]) -> None:
        self.path = path
        self._entries = entries

    def __len__(self) -> int:
        return len(self._entries)

    def of(self, name: str, columns: int, matrices: int = 1) -> np.ndarray | None:
        """Importances (columns,) of the tensor `name`, or (matrices, columns) of one with several; None if unknown.

        Raises:
            ExportError: there are as many values as in the matrix of another model.
        """
        found = self._entries.get(name)
        if found is None:
            return None
        if found.size == columns:
            return found.reshape(columns)
        if found.size == columns * matrices:
            return found.reshape(matrices, columns)
        raise ExportError(
            f"{self.path} has {found.size} values for {name}, which has {columns} columns"
            f"{f' and {matrices} matrices' if matrices > 1 else ''}: it belongs to another model, give this model's"
        )


def read_imatrix(path: Path) -> ImportanceMatrix:
    """The importance matrix in a file of either form.

    Raises:
        ExportError: the file can't be read, or is none.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(4)
        entries = _from_gguf(path) if magic == b"GGUF" else _from_dat(path.read_bytes())
    except OSError as error:
        raise ExportError(f"{path} can't be read ({error.strerror}): give the file that llama-imatrix wrote") from error
    except (ValueError, IndexError, KeyError, struct.error) as error:
        raise ExportError(
            f"{path} should be an importance matrix (.dat or .gguf) as llama-imatrix writes it, and is none ({error})"
        ) from error
    return ImportanceMatrix(path, entries)


def _from_gguf(path: Path) -> dict[str, np.ndarray]:
    tensors = {tensor.name: np.asarray(tensor.data, dtype=np.float32) for tensor in gguf.GGUFReader(path).tensors}
    names = [name.removesuffix(".in_sum2") for name in tensors if name.endswith(".in_sum2")]
    if not names:
        raise ValueError("no tensor NAME.in_sum2 in it")
    entries = {}
    for name in names:
        sums, counts = np.atleast_2d(tensors[f"{name}.in_sum2"]), tensors[f"{name}.counts"].reshape(-1, 1)
        # An expert that no token came to has no sums: all its columns count the same.
        entries[name] = np.where(counts > 0, sums / np.maximum(counts, 1), 1).astype(np.float32)
    return entries


def _from_dat(content: bytes) -> dict[str, np.ndarray]:
    (count,) = struct.unpack_from("<i", content)
    offset = 4
    if not 0 < count <= MOST:
        raise ValueError(f"{count} entries")
    entries = {}
    for _ in range(count):
        (length,) = struct.unpack_from("<i", content, offset)
        if not 0 < length <= MOST:
            raise ValueError(f"a name of {length} bytes")
        name = content[offset + 4 : offset + 4 + length].decode()
        calls, values = struct.unpack_from("<ii", content, offset + 4 + length)
        offset += 12 + length
        found = np.frombuffer(content, "<f4", values, offset)
        offset += found.nbytes
        entries[name] = found / max(calls, 1)
    return entries
