"""GGUF files for llama.cpp and the programs built on it.

Of a model that came as one, every tensor without an edit is copied byte for byte; an edited one is dequantised, edited
in fp32 and quantised to its own type again. A checkpoint of safetensors is converted.
"""

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from gguf import GGMLQuantizationType

from ...ablation.sites import Site
from ...config import ExportSettings
from ...errors import ExportError
from ...installing import install_command
from ...model.loading.chat_templates import FILE as CHAT_TEMPLATE
from ...model.loading.chat_templates import settle_chat_template
from ...model.loading.checkpoint import Checkpoint, find_checkpoint, is_projector
from ...model.loading.fast_gguf import open_gguf
from ..directory import check_output, new_directory
from ..ggml.about import about, general_keys
from ..ggml.blocks import EXTRA, writable
from ..ggml.converted_file import ConvertedFile
from ..ggml.edited_file import EditedFile, Retyped, is_quantised
from ..ggml.families import find_family
from ..ggml.file_types import FILE_TYPES
from ..ggml.header import Value
from ..ggml.imatrix import ImportanceMatrix, read_imatrix
from ..ggml.library import find_ggml
from ..ggml.vocabulary import Vocabulary
from ..matching import match_sites
from ..readers.base import CheckpointReader
from ..readers.gguf import GGUFCheckpointReader
from .base import Check, EditOf, Export, ExportFormat, Tolerance, Written

if TYPE_CHECKING:
    from ...model.loading.load import LoadedModel


class Gguf(ExportFormat):
    """A GGUF file."""

    name = "gguf"
    label = "a GGUF file (for llama.cpp)"
    suffix = "-gguf"
    library = "gguf"
    options = frozenset({"gguf_type", "imatrix"})

    def check_options(self, settings: ExportSettings) -> None:
        check_type(settings)

    def check(self, checkpoint: Checkpoint, settings: ExportSettings) -> None:
        self.check_options(settings)
        if checkpoint.gguf_file is None:
            Vocabulary(read_tokenizer(checkpoint.directory), int(find_config(checkpoint.directory).vocab_size))
            return
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

            def finish(directory: Path, notes: Sequence[str]) -> None:
                # The progress bar ends before `check` has output of its own.
                writing.close()
                for note in notes:
                    reporter.warn(note)
                check(directory)

            if isinstance(export.reader, GGUFCheckpointReader):
                _write_edited(export, output, importance, progress, finish)
            else:
                _write_converted(export, output, importance, progress, finish)

    def load(self, written: Written, say: Callable[[str], None]) -> "LoadedModel":
        from ...model.loading.load import load_model

        checkpoint = find_checkpoint(str(written.directory))
        # transformers reads Mistral's files as Llama's.
        if written.base.gguf_file is None and _model_type(written.base.directory) != "mistral":
            checkpoint = replace(checkpoint, configuration=written.base.directory)
        return load_model(checkpoint, written.settings, say)

    def tolerance(self, searched: Tolerance, export: Export) -> Tolerance:
        """Edited tensors are rounded again, to blocks of a few bits per weight; of a model of floats all are."""
        wanted, reader = export.settings.gguf_type, export.reader
        if isinstance(reader, GGUFCheckpointReader) and is_quantised(reader.file):
            return Tolerance(0.1, 0.05, 0.25, "in GGUF blocks")
        if wanted in ("same", "F32", "F16", "BF16"):
            return searched
        # The search measured the model before it was quantised.
        return Tolerance(0.1, 0.05, 0.25, f"without the quantisation to {wanted}", strict=False)


Finish = Callable[[Path, Sequence[str]], None]
"""Called with the complete directory and what has to be said about it."""


def _write_edited(
    export: Export, output: Path, importance: ImportanceMatrix | None, progress: Callable[[int], None], finish: Finish
) -> None:
    assert isinstance(export.reader, GGUFCheckpointReader)

    def check(directory: Path, retyped: Retyped) -> None:
        missing = {pair: count for pair, count in retyped.items() if not writable(GGMLQuantizationType[pair[0]])}
        notes = [
            f"{count} edited tensors of type {before} are written as {after}: only ggml can write {before}. Install it "
            f"with: {install_command(EXTRA)}"
            for (before, after), count in missing.items()
        ]
        finish(directory, notes)

    write_gguf(
        *(export.reader, output, export.sites, export.edit_of, export.settings.gguf_type, progress, check),
        importance=importance,
        changes=about(export, general_keys(export.reader.file)),
    )


@torch.inference_mode()
def _write_converted(
    export: Export, output: Path, importance: ImportanceMatrix | None, progress: Callable[[int], None], finish: Finish
) -> None:
    check_output(output)
    assert export.directory is not None
    owners = match_sites(export.sites, export.reader.tensors(), export.reader.directory)
    wanted = export.settings.gguf_type
    file = ConvertedFile(
        *(export.reader, find_config(export.directory), read_tokenizer(export.directory), owners, export.edit_of),
        *(wanted, importance, about(export, {})),
    )
    # Programs that run such files are often given their names without quotes.
    name = re.sub(r"\s+", "-", export.base_model.rpartition("/")[2])
    with new_directory(output) as directory:
        file.write(directory / f"{name}-heretic-{file.wanted}.gguf", progress)
        _copy_others(export.directory, directory)
        notes = []
        if file.left_out:
            notes.append(
                f"{len(file.left_out)} tensors are no part of the text model in llama.cpp and were left out "
                f"({', '.join(file.left_out[:3])}). Use the original's mmproj file for images or sound."
            )
        finish(directory, notes)


def find_config(directory: Path) -> Any:
    """The configuration of the text decoder of a checkpoint that can be converted.

    Raises:
        ExportError: it can't be converted, or read.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(str(directory)).get_text_config()
    except (OSError, ValueError, KeyError) as error:
        raise ExportError(f"The configuration in {directory} can't be read ({error}): check config.json") from error
    find_family(config)
    return config


def read_tokenizer(directory: Path) -> Any:
    """The tokenizer of a checkpoint, with the chat template that the search used."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(directory))
    except (OSError, ValueError, KeyError) as error:
        raise ExportError(f"The tokenizer in {directory} can't be read ({error}): check tokenizer.json") from error
    settle_chat_template(tokenizer, Checkpoint(directory.name, directory))
    return tokenizer


def _model_type(directory: Path) -> str:
    """The model_type of the text decoder in a directory; empty where there is none."""
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        return str((config.get("text_config") or config).get("model_type", ""))
    except (OSError, ValueError, AttributeError):
        return ""


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
        raise ExportError(f"Expected a GGUF file to write another one, but {reader.directory} holds none: convert it")
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
