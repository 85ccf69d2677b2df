"""The edit as a PEFT adapter: exact in all three row normalisations.

W' = diag(scale) (W + B A) with A = rightᵀ W, B = -left. Without a scale this is LoRA; with one it is DoRA (Liu et al.
2024, arXiv 2402.09353), W' = diag(m / |W + B A|) (W + B A) with the row norms m of W' as its magnitude.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save
from torch import Tensor

from ...ablation.edit import SiteEdit, edit_weight
from ...ablation.parameters import RowNormalization
from ...ablation.sites import FusedExpertsSite, Site
from ...errors import ExportError
from ..directory import check_output, new_directory
from ..matching import match_sites
from ..readers.base import CheckpointReader
from .base import Check, EditOf, Export, ExportFormat, Written

if TYPE_CHECKING:
    from peft import LoraConfig

    from ...model.loading.load import LoadedModel


class Adapter(ExportFormat):
    """The edited weights' difference alone, for PEFT."""

    name = "adapter"
    label = "an adapter (small; needs the original model)"
    suffix = "-adapter"
    library = "peft"
    needs_base = True

    def check_layout(self, sites: Sequence[Site]) -> None:
        _check_layout(sites)

    def check_sites(self, reader: CheckpointReader, sites: Sequence[Site], row_normalization: RowNormalization) -> None:
        self.check_layout(sites)
        for key, owner in match_sites(sites, reader.tensors(), reader.directory).items():
            if row_normalization == "full":
                _check_rows(owner.matrices(reader.read(key)).float().norm(dim=1), owner.site)

    def write(self, export: Export, output: Path, check: Check) -> None:
        named = export.base_model, export.revision
        write_adapter(export.reader, output, export.sites, export.edit_of, *named, check=check)

    def load(self, written: Written, say: Callable[[str], None]) -> "LoadedModel":
        from peft import PeftModel

        from ...model.loading.load import LoadedModel, load_model

        loaded = load_model(written.base, written.settings, say)
        model: Any = PeftModel.from_pretrained(loaded.model, str(written.directory))
        # PEFT replaces layers inside the model, which is called like any other without the wrapper.
        return LoadedModel(written.base, model.get_base_model().eval(), loaded.tokenizer, loaded.sites)


@dataclass(frozen=True, slots=True)
class LoraFactors:
    """One edited site: A (rank, d_in), B (d_model, rank), and DoRA's magnitude (d_model,) if the edit has a scale."""

    site: Site
    down: Tensor
    up: Tensor
    magnitude: Tensor | None


@torch.inference_mode()
def write_adapter(
    reader: CheckpointReader,
    output: Path,
    sites: Sequence[Site],
    edit_of: EditOf,
    base_model_name: str,
    revision: str | None = None,
    check: Check | None = None,
) -> None:
    """Writes the adapter to the new directory `output`; `check` sees it complete, and if it raises, nothing is left.

    Raises:
        ExportError: `output` exists, nothing is edited, the checkpoint does not fit the sites, or an edited weight
            has a zero row under `full`.
    """
    check_output(output)
    _check_layout(sites)
    factors = []
    for key, owner in match_sites(sites, reader.tensors(), reader.directory).items():
        site, weight = owner.site, owner.matrices(reader.read(key)).float()
        edit = edit_of(site, weight)
        if edit is not None:
            magnitude = None if edit.scale is None else _magnitude(edit, weight, site)
            factors.append(LoraFactors(site, edit.right.mT @ weight, -edit.left, magnitude))
    config = _config(factors, base_model_name, revision)
    with new_directory(output) as directory:
        weights = save(_state(factors, config.r), metadata={"format": "pt"})
        (directory / "adapter_model.safetensors").write_bytes(weights)
        config.save_pretrained(str(directory))
        if check is not None:
            check(directory)


def _check_layout(sites: Sequence[Site]) -> None:
    """Raises:
    ExportError: a site is no linear module.
    """
    fused = next((site for site in sites if isinstance(site, FusedExpertsSite)), None)
    if fused is not None:
        raise ExportError(
            f"{fused.key} holds {fused.n_experts} experts as one parameter, and an adapter has a place for the "
            "weights of linear modules only: write the merged model instead (--export merge)"
        )


def _magnitude(edit: SiteEdit, weight: Tensor, site: Site) -> Tensor:
    """Row norms of the edited weight: for `full`, those of the original."""
    norms: Tensor = edit_weight(edit, weight).norm(dim=1)
    _check_rows(norms, site)
    return norms


def _check_rows(norms: Tensor, site: Site) -> None:
    """Raises:
    ExportError: a row is zero.
    """
    zeros = int((norms == 0).sum())
    if zeros:
        raise ExportError(
            f"{zeros} rows of {site.key} are zero, and a DoRA adapter divides by their norm: "
            "write the merged model instead (--export merge), or search with row_normalization none or pre"
        )


def _config(factors: Sequence[LoraFactors], base_model_name: str, revision: str | None) -> "LoraConfig":
    if not factors:
        raise ExportError("the candidate edits no weight, so there is nothing to put into an adapter: choose another")
    layouts = {(one.site.transposed, one.magnitude is None) for one in factors}
    if len(layouts) > 1:
        raise ExportError(
            "an adapter has one layout and one normalisation for all weights, and this model or edit mixes two: "
            "write the merged model instead"
        )
    [(transposed, plain)] = layouts
    rank = max(len(one.down) for one in factors)
    modules = [one.site.module for one in factors]
    from peft import LoraConfig

    config = LoraConfig(
        base_model_name_or_path=base_model_name,
        revision=revision,
        task_type="CAUSAL_LM",
        inference_mode=True,
        r=rank,
        # PEFT multiplies B A by alpha / r.
        lora_alpha=rank,
        target_modules=modules,
        fan_in_fan_out=transposed,
        use_dora=not plain,
    )
    # PEFT has made a set of the list, whose order would change from run to run.
    config.target_modules = modules
    return config


def _state(factors: Sequence[LoraFactors], rank: int) -> dict[str, Tensor]:
    """The adapter's tensors under the names that PEFT stores them by, fp32."""
    state = {}
    for one in factors:
        prefix = f"base_model.model.{one.site.module}"
        missing = rank - len(one.down)
        state[f"{prefix}.lora_A.weight"] = torch.nn.functional.pad(one.down, (0, 0, 0, missing)).contiguous()
        state[f"{prefix}.lora_B.weight"] = torch.nn.functional.pad(one.up, (0, missing)).contiguous()
        if one.magnitude is not None:
            state[f"{prefix}.lora_magnitude_vector"] = one.magnitude
    return state
