"""GGUF files for llama.cpp and the programs built on it, of a model that came as one.

Every tensor without an edit is copied byte for byte. An edited one is dequantised, edited in fp32 and quantised to its
own type again.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from gguf import GGMLQuantizationType

from ...ablation.sites import Site
from ...config import ExportSettings
from ...errors import ExportError
from ...installing import install_command
from ...model.loading.chat_templates import FILE as CHAT_TEMPLATE
from ...model.loading.checkpoint import Checkpoint, find_checkpoint, is_projector
from ...model.loading.fast_gguf import open_gguf
from ..directory import check_output, new_directory
from ..ggml.about import about, general_keys
from ..ggml.blocks import EXTRA, writable
from ..ggml.edited_file import EditedFile, Retyped, is_quantised
from ..ggml.file_types import FILE_TYPES
from ..ggml.header import Value
from ..ggml.imatrix import ImportanceMatrix, read_imatrix
from ..ggml.library import find_ggml
from ..matching import match_sites
from ..readers.base import CheckpointReader
from ..readers.gguf import GGUFCheckpointReader
from .base import Check, EditOf, Export, ExportFormat, Tolerance, Written

if TYPE_CHECKING:
    from ...model.loading.load import LoadedModel

OTHER_FORMAT = "Write the merged model (--export merge), and convert it with llama.cpp's convert_hf_to_gguf.py"


class Gguf(ExportFormat):
    """A GGUF file."""

    name = "gguf"
    label = "a GGUF file (for llama.cpp)"
    suffix = "-gguf"
    library = "gguf"

    def suits(self, model: str) -> bool:
        path = Path(model).expanduser()
        return path.suffix == ".gguf" or (any(path.glob("*.gguf")) and not (path / "config.json").exists())

    def check(self, checkpoint: Checkpoint, settings: ExportSettings) -> None:
        if checkpoint.gguf_file is None:
            raise ExportError(f"Expected a GGUF file for --export gguf, but {checkpoint.name} is none. {OTHER_FORMAT}.")
        check_type(settings)
        plain = settings.gguf_type in ("same", *GGMLQuantizationType.__members__)
        if not plain and is_quantised(open_gguf(checkpoint.directory / checkpoint.gguf_file)):
            raise ExportError(
                f"{checkpoint.name} is quantised already, and rounding all of it again to {settings.gguf_type} would "
                "lose more. Keep its types (--gguf-type same), give the edited tensors another one (Q8_0, Q6_K), or "
                "start from the model's safetensors or a BF16 file."
            )

    def write(self, export: Export, output: Path, check: Check) -> None:
        settings, reporter = export.settings, export.reporter
        importance = None if settings.imatrix is None else read_imatrix(settings.imatrix)
        with ExitStack() as writing:
            progress = writing.enter_context(reporter.step(f"Writing {output}", len(export.reader.tensors())))

            def finish(directory: Path, retyped: Retyped) -> None:
                # The progress bar ends before `check` has output of its own.
                writing.close()
                for (before, after), count in retyped.items():
                    if not writable(GGMLQuantizationType[before]):
                        reporter.warn(
                            f"{count} edited tensors of type {before} are written as {after}: only ggml can write "
                            f"{before}. Install it with: {install_command(EXTRA)}"
                        )
                check(directory)

            assert isinstance(export.reader, GGUFCheckpointReader)
            changes = about(export, general_keys(export.reader.file))
            write_gguf(
                *(export.reader, output, export.sites, export.edit_of, settings.gguf_type, progress, finish),
                importance=importance,
                changes=changes,
            )

    def load(self, written: Written, say: Callable[[str], None]) -> "LoadedModel":
        from ...model.loading.load import load_model

        return load_model(find_checkpoint(str(written.directory)), written.settings, say)

    def tolerance(self, searched: Tolerance) -> Tolerance:
        """Edited tensors are rounded again, to blocks of a few bits per weight."""
        return Tolerance(0.1, 0.05, 0.25, "in GGUF blocks")


def check_type(settings: ExportSettings) -> None:
    """Makes sure that the type of `gguf_type` can be written here, and that the importance matrix can be read.

    Raises:
        ExportError: it can't.
    """
    if settings.imatrix is not None:
        read_imatrix(settings.imatrix)
        if find_ggml() is None:
            raise ExportError(f"An importance matrix (--imatrix) needs ggml. Install it with: {install_command(EXTRA)}")
    if settings.gguf_type == "same":
        return
    file_type = FILE_TYPES[settings.gguf_type]
    kinds = {file_type.base, file_type.output, *(kind for rules in file_type.rules.values() for _, kind in rules)}
    if not all(map(writable, kinds)):
        raise ExportError(
            f"Only ggml can write files of type {settings.gguf_type}, and no installed package contains it. Install "
            f"one with: {install_command(EXTRA)}. Or choose Q8_0 (--gguf-type Q8_0)."
        )
    if file_type.few_bits and settings.imatrix is None:
        raise ExportError(
            f"A file of type {settings.gguf_type} is of no use without an importance matrix: give the one of this "
            "model (--imatrix FILE, from llama-imatrix), or choose IQ3_S or more bits."
        )


@torch.inference_mode()
def write_gguf(
    reader: CheckpointReader,
    output: Path,
    sites: Sequence[Site],
    edit_of: EditOf,
    wanted: str = "same",
    progress: Callable[[int], None] | None = None,
    check: Callable[[Path, Retyped], None] | None = None,
    importance: ImportanceMatrix | None = None,
    changes: Mapping[str, Value] | None = None,
) -> None:
    """Writes the edited GGUF file into the new directory `output`, named after the original, followed by -heretic.

    Edited tensors of quantised types become `wanted` ones (Q8_0, F16) instead of their own; `importance` weighs the
    columns of what is quantised, and `changes` are keys of the metadata.

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
    edited = EditedFile(reader, owners, edit_of, wanted, importance, changes)
    with new_directory(output) as directory:
        edited.check_space(directory)
        edited.write(directory, progress or (lambda _: None))
        _copy_others(reader.paths[0].parent, directory)
        if check is not None:
            check(directory, edited.retyped)


def _copy_others(source: Path, output: Path) -> None:
    """Copies what belongs to the file: a chat template, which takes the place of the file's own, and projectors."""
    others = [path for path in source.glob("*.gguf") if is_projector(path.name)]
    for path in (source / CHAT_TEMPLATE, *others):
        if path.is_file():
            shutil.copyfile(path, output / path.name)
