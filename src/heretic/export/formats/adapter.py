"""The edit as a PEFT adapter: exact in all three row normalisations.

W' = diag(scale) (W + B A) with A = rightᵀ W, B = -left. Without a scale this is LoRA; with one it is DoRA (Liu et al.
2024, arXiv 2402.09353), W' = diag(m / |W + B A|) (W + B A) with the row norms m of W' as its magnitude.
"""

import warnings
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

    def check_layout(self, sites: Sequence[Site], row_normalization: RowNormalization) -> None:
        fused = next((site for site in sites if isinstance(site, FusedExpertsSite)), None)
        if fused is not None and row_normalization == "full":
            raise ExportError(_no_rescaled_experts(fused))

    def write(self, export: Export, output: Path, check: Check) -> None:
        named = export.base_model, export.revision
        write_adapter(export.reader, output, export.sites, export.edit_of, *named, check=check)

    def load(self, written: Written, say: Callable[[str], None]) -> "LoadedModel":
        from ...model.loading.load import LoadedModel, load_model

        loaded = load_model(written.base, written.settings, say)
        return LoadedModel(written.base, adapted(loaded.model, written.directory), loaded.tokenizer, loaded.sites)


def adapted(model: Any, directory: Path) -> Any:
    """The model with the adapter in `directory`: PEFT replaces layers inside it, and it is called as before."""
    from peft import PeftModel

    with warnings.catch_warnings():
        # PEFT reads a name that transformers has renamed.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        return PeftModel.from_pretrained(model, str(directory)).get_base_model().eval()


@dataclass(frozen=True, slots=True)
class LoraFactors:
    """One edited site: A (rank, d_in), B (d_model, rank), and DoRA's magnitude (d_model,) if the edit has a scale.

    Fused experts have A (experts, rank, d_in) and B (experts, d_model, rank), and no magnitude.
    """

    site: Site
    down: Tensor
    up: Tensor
    magnitude: Tensor | None = None


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
        ExportError: `output` exists, nothing is edited, the checkpoint does not fit the sites, or rows of fused
            experts are rescaled.
    """
    check_output(output)
    owners = match_sites(sites, reader.tensors(), reader.directory)
    keys: dict[str, list[str]] = {}
    for key, owner in owners.items():
        keys.setdefault(owner.site.key, []).append(key)
    factors = []
    for parts in keys.values():
        site = owners[parts[0]].site
        weights = [(owners[key].expert, owners[key].matrices(reader.read(key)).float()) for key in parts]
        if isinstance(site, FusedExpertsSite):
            factors += _of_experts(site, weights, edit_of)
        elif (edit := edit_of(site, weights[0][1])) is not None:
            factors.append(_of_matrix(site, weights[0][1], edit))
    config = _config(factors, base_model_name, revision)
    with new_directory(output) as directory:
        content = save(_state(factors, config.r), metadata={"format": "pt"})
        (directory / "adapter_model.safetensors").write_bytes(content)
        config.save_pretrained(str(directory))
        if check is not None:
            check(directory)


def _of_matrix(site: Site, weight: Tensor, edit: SiteEdit) -> LoraFactors:
    down, up = edit.right.mT @ weight, -edit.left
    if edit.scale is None:
        return LoraFactors(site, down, up)
    magnitude = edit_weight(edit, weight).norm(dim=1)
    # DoRA divides by the norm of the row of W + B A. A row of zeros stays one by its magnitude of zero, as long as that
    # norm is not zero too: B gets a one there.
    up = up.clone()
    up[magnitude == 0, 0] = 1
    return LoraFactors(site, down, up, magnitude)


def _of_experts(
    site: FusedExpertsSite, weights: Sequence[tuple[int | None, Tensor]], edit_of: EditOf
) -> list[LoraFactors]:
    """The factors of all experts of a site, zero for those without an edit; none if no expert has one.

    `weights` are the number and the matrix of each expert, or one weight (experts, d_model, d_in) without a number.
    """
    whole = weights[0][1] if weights[0][0] is None else torch.stack([weight for _, weight in weights])
    edits: list[SiteEdit | None]
    if weights[0][0] is None:
        edit = edit_of(site, whole)
        edits = [None if edit is None else _of_expert(edit, number) for number in range(len(whole))]
    else:
        chosen = [site.chosen is None or number in site.chosen for number, _ in weights]
        edits = [edit_of(site, weight) if wanted else None for wanted, (_, weight) in zip(chosen, weights, strict=True)]
    known = [edit for edit in edits if edit is not None]
    if not known:
        return []
    if any(edit.scale is not None for edit in known):
        raise ExportError(_no_rescaled_experts(site))
    rank, (_, d_model, d_in) = known[0].left.shape[-1], whole.shape
    down, up = whole.new_zeros(len(whole), rank, d_in), whole.new_zeros(len(whole), d_model, rank)
    for number, edit in enumerate(edits):
        if edit is not None:
            down[number], up[number] = edit.right.mT @ whole[number], -edit.left
    return [LoraFactors(site, down, up)]


def _of_expert(edit: SiteEdit, number: int) -> SiteEdit:
    if edit.left.dim() == 2:
        return edit
    return SiteEdit(edit.left[number], edit.right[number], None if edit.scale is None else edit.scale[number])


def _no_rescaled_experts(site: FusedExpertsSite) -> str:
    return (
        f"{site.key} holds {site.n_experts} experts as one parameter, whose rows an adapter can't rescale as "
        "row_normalization full does: search with row_normalization pre or none (--row-normalization pre), or write "
        "the merged model instead (--export merge)"
    )


def _config(factors: Sequence[LoraFactors], base_model_name: str, revision: str | None) -> "LoraConfig":
    if not factors:
        raise ExportError("the candidate edits no weight, so there is nothing to put into an adapter: choose another")
    experts = [one.site.key for one in factors if isinstance(one.site, FusedExpertsSite)]
    matrices = [one for one in factors if not isinstance(one.site, FusedExpertsSite)]
    layouts = {(one.site.transposed, one.magnitude is None) for one in matrices} or {(False, True)}
    if len(layouts) > 1 or (experts and layouts != {(False, True)}):
        raise ExportError(
            "an adapter has one layout and one normalisation for all weights, and this model or edit mixes two: "
            "write the merged model instead"
        )
    [(transposed, plain)] = layouts
    rank = max(one.down.shape[-2] for one in factors)
    modules = [one.site.module for one in matrices]
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
        target_parameters=experts or None,
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
        missing = rank - one.down.shape[-2]
        down = torch.nn.functional.pad(one.down, (0, 0, 0, missing))
        up = torch.nn.functional.pad(one.up, (0, missing))
        if isinstance(one.site, FusedExpertsSite):
            # PEFT lays A out expert by expert, and B rank by rank.
            down, up = down.flatten(0, 1), up.permute(1, 2, 0).flatten(1)
        state[f"{prefix}.lora_A.weight"] = down.contiguous()
        state[f"{prefix}.lora_B.weight"] = up.contiguous()
        if one.magnitude is not None:
            state[f"{prefix}.lora_magnitude_vector"] = one.magnitude
    return state
