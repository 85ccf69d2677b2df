"""A GGUF file from another one: edited tensors are quantised again, the others are copied.

The order of tensors and every tensor that keeps its type and has no edit are the original's, byte for byte.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import gguf
import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, ReaderTensor
from torch import Tensor

from ...model.loading.checkpoint import SPLIT
from ..directory import check_space
from ..formats.base import EditOf
from ..matching import Owner
from ..readers.gguf import GGUFCheckpointReader
from ..requantize import Pack, requantize, type_for
from .blocks import FLOATS, quantize
from .file_types import FILE_TYPES, Model, quantised, tensor_type
from .header import Value, header_bytes
from .imatrix import ImportanceMatrix

Retyped = dict[tuple[str, str], int]
"""How many tensors are written as another type, by their type in the file and the one written."""


class EditedFile:
    """The file of `reader` with the weights of `owners` edited, as files of the same names and parts.

    `wanted` is the type of the edited tensors of a quantised file (`same`: their own), and the type of the whole file
    where the original is one of floats. `changes` are keys of its metadata.
    """

    def __init__(
        self,
        reader: GGUFCheckpointReader,
        owners: Mapping[str, tuple[str, Owner]],
        edit_of: EditOf,
        wanted: str = "same",
        importance: ImportanceMatrix | None = None,
        changes: Mapping[str, Value] | None = None,
    ) -> None:
        self._reader = reader
        self._owners = owners
        self._edit_of = edit_of
        self._importance = importance
        self._changes = dict(changes or {})
        self._types = self._choose(wanted)
        self.retyped: Retyped = {}

    def _choose(self, wanted: str) -> dict[str, GGMLQuantizationType]:
        """The type of each tensor that is edited, or changes with the type of the whole file."""
        tensors = self._reader.file.tensors
        if wanted == "same" or is_quantised(self._reader.file):
            edited = [tensor for tensor in tensors if tensor.name in self._owners]
            return {one.name: type_for(one.tensor_type, int(one.shape[0]), wanted) for one in edited}
        file_type = FILE_TYPES[wanted]
        self._changes["general.file_type"] = int(file_type.number)
        self._changes["general.quantization_version"] = gguf.GGML_QUANT_VERSION
        model = shape_of(self._reader.file, self._importance is not None)
        return {
            one.name: tensor_type(one.name, int(one.shape[0]), file_type, model)
            for one in tensors
            if quantised(one.name, len(one.shape))
        }

    def check_space(self, directory: Path) -> None:
        """Compares the size of the files, if every site is edited, with the free space.

        Raises:
            ExportError: they don't fit.
        """
        size = sum(path.stat().st_size for path in self._reader.paths)
        for tensor in self._reader.file.tensors:
            if tensor.name in self._types:
                block, block_bytes = gguf.GGML_QUANT_SIZES[self._types[tensor.name]]
                size += int(tensor.n_elements) // block * block_bytes - int(tensor.n_bytes) + 32
        check_space(directory, max(size, 0))

    def write(self, directory: Path, progress: Callable[[int], None]) -> None:
        """Writes all parts into `directory`."""
        for number, (path, part) in enumerate(zip(self._reader.paths, self._reader.parts, strict=True)):
            with (directory / written_name(path.name)).open("w+b") as file:
                # The other parts of a split file have none of these keys.
                self._write_part(part, self._changes if number == 0 else {}, file, progress)

    def _write_part(
        self, part: GGUFReader, changes: Mapping[str, Value], file: BinaryIO, progress: Callable[[int], None]
    ) -> None:
        """Header first, tensors in the order they lie in, then their types and places into the header."""
        alignment = int(part.alignment)
        table = part.tensors[0].field.offset
        head = header_bytes(part, changes)
        file.write(head + part.data[table : _end_of_table(part)].tobytes())
        file.write(bytes(-file.tell() % alignment))
        start = file.tell()
        entries = []
        for tensor in sorted(part.tensors, key=lambda tensor: tensor.data_offset):
            begin = file.tell()
            kind, content = self._content(tensor)
            file.write(content)
            file.write(bytes(-file.tell() % alignment))
            entries.append((tensor, kind, begin - start))
            progress(1)
        order = ">" if part.endianess == gguf.GGUFEndian.BIG else "<"
        for tensor, kind, offset in entries:
            # Name (length and text), number of dimensions, dimensions, type, offset: GGUF, "File Structure".
            name_length, name, n_dims, dims = tensor.field.parts[:4]
            place = tensor.field.offset + sum(each.nbytes for each in (name_length, name, n_dims, dims))
            file.seek(place - table + len(head))
            file.write(struct.pack(f"{order}IQ", kind, offset))

    def _content(self, tensor: ReaderTensor) -> tuple[GGMLQuantizationType, bytes]:
        """The tensor's type and bytes in the new file."""
        kind = self._types.get(tensor.name, tensor.tensor_type)
        content = self._edited(tensor, kind) if tensor.name in self._owners else None
        if content is None and (kind == tensor.tensor_type or tensor.tensor_type not in FLOATS):
            return tensor.tensor_type, tensor.data.tobytes()
        if kind != tensor.tensor_type:
            change = (tensor.tensor_type.name, kind.name)
            self.retyped[change] = self.retyped.get(change, 0) + 1
        if content is None:
            values = gguf.dequantize(tensor.data, tensor.tensor_type)
            content = quantize(values, kind, self._importance_of(tensor))
        return kind, content.tobytes()

    def _edited(self, tensor: ReaderTensor, kind: GGMLQuantizationType) -> np.ndarray | None:
        """The edited tensor; None where the trial does not edit it."""
        key, owner = self._owners[tensor.name]
        stored = self._reader.read_exact(key)
        original = owner.matrices(stored)
        edit = self._edit_of(owner.site, original)
        if edit is None:
            return None
        in_file = tuple(reversed(tensor.shape.tolist()))
        importance = self._importance_of(tensor)
        pack = pack_of(self._reader.order(key), owner, kind, in_file, tuple(stored.shape), importance)
        edited = owner.matrices(owner.edited(stored, edit))
        return requantize(original, edited, edit.left, pack)

    def _importance_of(self, tensor: ReaderTensor) -> np.ndarray | None:
        if self._importance is None:
            return None
        matrices = int(tensor.shape[2]) if len(tensor.shape) > 2 else 1
        return self._importance.of(tensor.name, int(tensor.shape[0]), matrices)


def is_quantised(file: GGUFReader) -> bool:
    """Whether any tensor is of another type than floats."""
    return any(tensor.tensor_type not in FLOATS for tensor in file.tensors)


def shape_of(file: GGUFReader, importance: bool) -> Model:
    """What the types of a file of this model depend on."""

    def number(key: str, default: int) -> int:
        field = file.fields.get(f"{architecture}.{key}")
        found = default if field is None else field.contents()
        # Some architectures have a number for each layer.
        return max(map(int, found)) if isinstance(found, list) else int(found)

    architecture = file.fields["general.architecture"].contents()
    heads = number("attention.head_count", 1)
    return Model(
        layers=number("block_count", 1),
        grouped=heads // max(number("attention.head_count_kv", heads), 1),
        experts=number("expert_count", 0),
        tied=all(tensor.name != "output.weight" for tensor in file.tensors),
        importance=importance,
    )


def written_name(name: str) -> str:
    """The name of an edited file, or of a part of it: that of the original, followed by -heretic."""
    split = SPLIT.search(name)
    ending = split[0] if split else ".gguf"
    return f"{name.removesuffix(ending)}-heretic{ending}"


def _end_of_table(part: GGUFReader) -> int:
    last = max(part.tensors, key=lambda tensor: tensor.field.offset).field
    return int(last.offset + sum(each.nbytes for each in last.parts))


def pack_of(
    order: Tensor | None,
    owner: Owner,
    kind: GGMLQuantizationType,
    in_file: Sequence[int],
    in_model: Sequence[int],
    importance: np.ndarray | None = None,
) -> Pack:
    """Between the matrices of a site and the file's tensor; the shapes are as they are stored."""
    back = None if order is None else order.argsort()

    def stored(matrices: Tensor) -> Tensor:
        flat = (matrices.mT if owner.transposed else matrices).reshape(-1)
        return (flat if back is None else flat[back]).reshape(tuple(in_file))

    def loaded(tensor: Tensor) -> Tensor:
        flat = tensor.reshape(-1)
        return owner.matrices((flat if order is None else flat[order]).reshape(tuple(in_model)))

    return Pack(kind, stored, loaded, importance)
