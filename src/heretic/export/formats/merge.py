"""The edit merged into a checkpoint, one tensor in memory at a time."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...ablation.sites import FusedExpertsSite, Site
from ...config.changes import changed
from ...model.loading.checkpoint import find_checkpoint
from ..directory import check_output, new_directory
from ..matching import Owner, match_sites
from ..readers.base import CheckpointReader
from ..writer import CheckpointWriter
from .base import Check, EditOf, Export, ExportFormat, Written

if TYPE_CHECKING:
    from ...model.loading.load import LoadedModel


class Merge(ExportFormat):
    """The whole model, edited, as a checkpoint of the original's own layout."""

    name = "merge"
    label = "the model"
    suffix = ""
    library = "transformers"
    options = frozenset({"max_shard_size"})

    def write(self, export: Export, output: Path, check: Check) -> None:
        with ExitStack() as writing:
            title, tensors = f"Writing {output}", len(export.reader.tensors())
            progress = writing.enter_context(export.reporter.step(title, tensors))

            def finish(directory: Path) -> None:
                # The progress bar ends before `check` has output of its own.
                writing.close()
                check(directory)

            shard_size = export.settings.max_shard_size
            merge(export.reader, output, export.sites, export.edit_of, shard_size, lambda _: progress(1), finish)

    def load(self, written: Written, say: Callable[[str], None]) -> "LoadedModel":
        from ...model.loading.load import load_model

        settings = changed(written.settings, {"quantization": written.quantization})
        return load_model(find_checkpoint(str(written.directory)), settings, say)


@torch.inference_mode()
def merge(
    reader: CheckpointReader,
    output: Path,
    sites: Sequence[Site],
    edit_of: EditOf,
    max_shard_size: int | str = "5GB",
    progress: Callable[[int], None] | None = None,
    check: Check | None = None,
) -> None:
    """Writes the edited checkpoint to the new directory `output`; every tensor without an edit byte for byte.

    `progress` is called with the bytes of each tensor written; `check` with the complete directory before it takes
    its name: if it raises, nothing is left.

    Raises:
        ExportError: `output` exists, the disk is full, the checkpoint does not fit the sites or is damaged.
    """
    check_output(output)
    tensors = reader.tensors()
    owners = match_sites(sites, tensors, reader.directory)
    with new_directory(output) as directory:
        writer = CheckpointWriter(directory, tensors, max_shard_size)
        for info in tensors:
            tensor = reader.read(info.key)
            owner = owners.get(info.key)
            writer.add(info.key, tensor if owner is None else edited(tensor, owner, edit_of))
            if progress is not None:
                progress(info.nbytes)
        writer.finish()
        reader.write_companions(directory)
        if check is not None:
            check(directory)


def edited(tensor: Tensor, owner: Owner, edit_of: EditOf) -> Tensor:
    """The stored tensor with its site's edit in it, in its own type."""
    chosen = owner.site.chosen if isinstance(owner.site, FusedExpertsSite) else None
    if owner.expert is not None and chosen is not None and owner.expert not in chosen:
        return tensor
    weight = owner.matrices(tensor)
    # All experts in fp32 at once may be larger than the model: their statistics are made one by one.
    edit = edit_of(owner.site, weight.float() if weight.dim() == 2 else weight)
    return tensor if edit is None else owner.edited(tensor, edit)
