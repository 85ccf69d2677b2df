"""The protocol of export formats: how they are written, loaded again and compared with the search's metrics."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from ...ablation.edit import SiteEdit
from ...ablation.parameters import RowNormalization
from ...ablation.sites import Site
from ...config import ExportName, ExportSettings, ModelSettings
from ...events import Reporter
from ...model.loading.checkpoint import Checkpoint
from ..matching import match_sites
from ..readers.base import CheckpointReader

if TYPE_CHECKING:
    from ...model.loading.load import LoadedModel

EditOf = Callable[[Site, Tensor], SiteEdit | None]
"""From a site and its weight, (d_model, d_in) or (experts, d_model, d_in), to its edit; None leaves it as it is."""

Check = Callable[[Path], None]
"""Called with the complete directory before it takes its name: if it raises, nothing is left."""


@dataclass(frozen=True, slots=True)
class Export:
    """One model to write: the original's tensors, its sites and their edits.

    `base_model` is the original's public name; `repository` and `revision` are its id and commit on the hub,
    `directory` has its configuration and tokenizer.
    """

    reader: CheckpointReader
    sites: Sequence[Site]
    edit_of: EditOf
    base_model: str
    revision: str | None
    settings: ExportSettings
    reporter: Reporter
    repository: str | None = None
    directory: Path | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """A complete export and the model that it was made from.

    `settings` load the original as the search did. `quantization` is the one in which a written model of full
    precision is loaded for the comparison.
    """

    directory: Path
    base: Checkpoint
    settings: ModelSettings
    quantization: str


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far the written model's metrics may be from those of the search.

    `counts` is a share of the prompts; a real number may be off by `value` plus `value_share` of itself. `reason` ends
    a sentence about them. One that is not `strict` gives a warning instead of an error.
    """

    counts: float
    value: float
    value_share: float
    reason: str
    strict: bool = True


class ExportFormat(Protocol):
    """One form in which an edited model is written.

    Attributes:
        name: the value of the setting `export`.
        label: the format in a menu, after a verb: "a GGUF file (for llama.cpp)".
        suffix: what the default output directory ends in.
        library: the hub's name of the library that loads it.
        needs_base: whether it is only of use together with the original model.
        options: settings that concern this format alone.
    """

    name: ExportName
    label: str
    suffix: str
    library: str
    needs_base: bool = False
    options: frozenset[str] = frozenset()

    def check_options(self, settings: ExportSettings) -> None:
        """Makes sure that this machine can write what the format's own settings ask for.

        Raises:
            ExportError: it can't.
        """
        return

    def check(self, checkpoint: Checkpoint, settings: ExportSettings) -> None:
        """Makes sure that the checkpoint can be written in this format, before it is loaded.

        Raises:
            ExportError: it can't.
        """
        return

    def check_layout(self, sites: Sequence[Site], row_normalization: RowNormalization) -> None:
        """Makes sure that the format has a place for the edited weights of these sites.

        Raises:
            ExportError: it has none.
        """
        return

    def check_sites(self, reader: CheckpointReader, sites: Sequence[Site], row_normalization: RowNormalization) -> None:
        """Makes sure that any edit of these sites of a checkpoint can be written, before a search looks for one.

        Raises:
            ExportError: some can't.
        """
        self.check_layout(sites, row_normalization)
        match_sites(sites, reader.tensors(), reader.directory)

    def write(self, export: Export, output: Path, check: Check) -> None:
        """Writes the new directory `output`, complete or not at all.

        Raises:
            ExportError: `output` exists, the disk is full, or the format has no place for the edit.
        """

    def load(self, written: Written, say: Callable[[str], None]) -> "LoadedModel":
        """The model that was written, as its users load it."""

    def tolerance(self, searched: Tolerance, export: Export) -> Tolerance:
        """What the written metrics may differ by, given what rounding as in the search explains."""
        return searched
