"""A GGUF file in which only the edited tensors differ: whoever runs the original with llama.cpp runs this one.

Metadata, the order of tensors and every tensor without an edit are copied byte for byte. An edited tensor is
dequantised, edited in fp32 and quantised to its own type again, where the gguf package can write that type.
"""

import shutil
import struct
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import gguf
import torch
from gguf import GGMLQuantizationType, ReaderTensor
from torch import Tensor

from ...ablation.sites import Site
from ...errors import ExportError
from ...model.loading.chat_templates import FILE as CHAT_TEMPLATE
from ...model.loading.checkpoint import Checkpoint, find_checkpoint
from ..directory import check_output, check_space, new_directory
from ..matching import Owner, match_sites
from ..readers.base import CheckpointReader
from ..readers.gguf import GGUFCheckpointReader
from ..requantize import Pack, requantize, type_for
from .base import Check, EditOf, Export, ExportFormat, Tolerance, Written

if TYPE_CHECKING:
    from ...model.loading.load import LoadedModel

Retyped = dict[tuple[str, str], int]
"""How many tensors are written as another type, by their type in the file and the one written."""

OTHER_FORMAT = "Write the merged model (--export merge), and convert it with llama.cpp's convert_hf_to_gguf.py"


class Gguf(ExportFormat):
    """Another GGUF file, of a model that came as one."""

    name = "gguf"
    label = "a GGUF file (for llama.cpp)"
    suffix = "-gguf"
    library = "gguf"

    def suits(self, model: str) -> bool:
        path = Path(model).expanduser()
        return path.suffix == ".gguf" or (any(path.glob("*.gguf")) and not (path / "config.json").exists())

    def check(self, checkpoint: Checkpoint) -> None:
        if checkpoint.gguf_file is None:
            raise ExportError(f"Expected a GGUF file for --export gguf, but {checkpoint.name} is none. {OTHER_FORMAT}.")

    def write(self, export: Export, output: Path, check: Check) -> None:
        wanted, reporter = export.settings.gguf_type, export.reporter
        with ExitStack() as writing:
            progress = writing.enter_context(reporter.step(f"Writing {output}", len(export.reader.tensors())))

            def finish(directory: Path, retyped: Retyped) -> None:
                # The progress bar ends before `check` has output of its own.
                writing.close()
                for (before, after), count in retyped.items():
                    why = "" if after == wanted else f": the gguf package can't write {before}"
                    reporter.warn(f"{count} edited tensors of type {before} are written as {after}{why}.")
                check(directory)

            write_gguf(export.reader, output, export.sites, export.edit_of, wanted, progress, finish)

    def load(self, written: Written, say: Callable[[str], None]) -> "LoadedModel":
        from ...model.loading.load import load_model

        return load_model(find_checkpoint(str(written.directory)), written.settings, say)

    def tolerance(self, searched: Tolerance) -> Tolerance:
        """Edited tensors are rounded again, to blocks of a few bits per weight."""
        return Tolerance(0.1, 0.05, 0.25, "in GGUF blocks")


def _largest_size(reader: GGUFCheckpointReader, owners: Mapping[str, tuple[str, Owner]], wanted: str) -> int:
    """Bytes of the new file if every site is edited."""
    size = reader.path.stat().st_size
    for tensor in reader.file.tensors:
        if tensor.name in owners:
            block, block_bytes = gguf.GGML_QUANT_SIZES[type_for(tensor.tensor_type, int(tensor.shape[0]), wanted)]
            size += int(tensor.n_elements) // block * block_bytes - int(tensor.n_bytes) + int(reader.file.alignment)
    return size


@torch.inference_mode()
def write_gguf(
    reader: CheckpointReader,
    output: Path,
    sites: Sequence[Site],
    edit_of: EditOf,
    wanted: str = "same",
    progress: Callable[[int], None] | None = None,
    check: Callable[[Path, Retyped], None] | None = None,
) -> None:
    """Writes the edited GGUF file into the new directory `output`, named after the original, followed by -heretic.

    Edited tensors of quantised types become `wanted` ones (Q8_0, F16) instead of their own.

    `progress` is called once for each tensor; `check` sees the complete directory and what has changed its type, and
    if it raises, nothing is left.

    Raises:
        ExportError: the model is no GGUF file, `output` exists, the disk is full, or a site's weight can't be put back.
    """
    check_output(output)
    if not isinstance(reader, GGUFCheckpointReader):
        raise ExportError(
            f"Expected a GGUF file to write another one, but {reader.directory} holds none. {OTHER_FORMAT}."
        )
    owners = {}
    for key, owner in match_sites(sites, reader.tensors(), reader.directory).items():
        for source in reader.sources(key):
            owners[source.name] = (key, owner)
    with new_directory(output) as directory:
        check_space(directory, _largest_size(reader, owners, wanted))
        name = f"{Path(reader.path.name).stem}-heretic.gguf"
        retyped: Retyped = {}
        with reader.path.open("rb") as source_file, (directory / name).open("w+b") as file:
            _Copy(reader, source_file, file, owners, edit_of, retyped, wanted).run(progress or (lambda _: None))
        template = reader.path.parent / CHAT_TEMPLATE
        if template.is_file():
            # It takes the place of the file's own there, and so it must here.
            shutil.copyfile(template, directory / CHAT_TEMPLATE)
        if check is not None:
            check(directory, retyped)


class _Copy:
    """One file on its way into another."""

    def __init__(
        self,
        reader: GGUFCheckpointReader,
        source: BinaryIO,
        file: BinaryIO,
        owners: Mapping[str, tuple[str, Owner]],
        edit_of: EditOf,
        retyped: Retyped,
        wanted: str,
    ) -> None:
        self._reader = reader
        self._source = source
        self._file = file
        self._owners = owners
        self._edit_of = edit_of
        self._retyped = retyped
        self._wanted = wanted

    def run(self, progress: Callable[[int], None]) -> None:
        """Header first, tensors in the order they lie in, then their types and places into the header."""
        original = self._reader.file
        start, alignment = int(original.data_offset), int(original.alignment)
        ordered = sorted(original.tensors, key=lambda tensor: tensor.data_offset)
        self._file.write(self._bytes(0, start))
        entries = []
        for tensor in ordered:
            self._file.write(bytes(-self._file.tell() % alignment))
            begin = self._file.tell()
            kind, content = self._content(tensor)
            self._file.write(content)
            entries.append((tensor, kind, begin - start))
            progress(1)
        # Bytes after the last tensor, usually padding.
        end = int(ordered[-1].data_offset) + int(ordered[-1].n_bytes)
        self._file.write(self._bytes(end, self._reader.path.stat().st_size - end))
        for tensor, kind, offset in entries:
            # Name (length and text), number of dimensions, dimensions, type, offset: GGUF, "File Structure".
            name_length, name, n_dims, dims = tensor.field.parts[:4]
            self._file.seek(tensor.field.offset + sum(part.nbytes for part in (name_length, name, n_dims, dims)))
            self._file.write(struct.pack("<IQ", kind, offset))

    def _content(self, tensor: ReaderTensor) -> tuple[GGMLQuantizationType, bytes | memoryview]:
        """The tensor's type and bytes in the new file."""
        unchanged = tensor.tensor_type, self._bytes(int(tensor.data_offset), int(tensor.n_bytes))
        if tensor.name not in self._owners:
            return unchanged
        key, owner = self._owners[tensor.name]
        stored = self._reader.read_exact(key)
        original = owner.matrices(stored)
        edit = self._edit_of(owner.site, original)
        if edit is None:
            return unchanged
        kind = type_for(tensor.tensor_type, int(tensor.shape[0]), self._wanted)
        if kind != tensor.tensor_type:
            change = (tensor.tensor_type.name, kind.name)
            self._retyped[change] = self._retyped.get(change, 0) + 1
        in_file = tuple(reversed(tensor.shape.tolist()))
        pack = _pack(self._reader.order(key), owner, kind, in_file, tuple(stored.shape))
        edited = owner.matrices(owner.edited(stored, edit))
        return kind, requantize(original, edited, edit.left, pack).tobytes()

    def _bytes(self, start: int, length: int) -> bytes:
        self._source.seek(start)
        return self._source.read(length)


def _pack(
    order: Tensor | None, owner: Owner, kind: GGMLQuantizationType, in_file: Sequence[int], in_model: Sequence[int]
) -> Pack:
    """Between the matrices of a site and the file's tensor; the shapes are as they are stored."""
    back = None if order is None else order.argsort()

    def stored(matrices: Tensor) -> Tensor:
        flat = (matrices.mT if owner.transposed else matrices).reshape(-1)
        return (flat if back is None else flat[back]).reshape(tuple(in_file))

    def loaded(tensor: Tensor) -> Tensor:
        flat = tensor.reshape(-1)
        return owner.matrices((flat if order is None else flat[order]).reshape(tuple(in_model)))

    return Pack(kind, stored, loaded)
