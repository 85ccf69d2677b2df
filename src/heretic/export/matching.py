"""Which stored tensor is the weight of which site."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..ablation.edit import SiteEdit, edit_weight
from ..ablation.sites import FusedExpertsSite, Site
from ..errors import ExportError
from .checkpoint_names import StoredPart, stored_parts
from .readers.tensors import EDITABLE, TensorInfo


@dataclass(frozen=True, slots=True)
class Owner:
    """The site whose weight a stored tensor is, or, with `expert`, whose matrix of that expert.

    `transposed` tensors are stored (d_in, d_model).
    """

    site: Site
    transposed: bool
    expert: int | None = None

    def matrices(self, tensor: Tensor) -> Tensor:
        """A view of the stored tensor, (d_model, d_in), or (experts, d_model, d_in) where it holds several."""
        if self.expert is None and isinstance(self.site, FusedExpertsSite) and tensor.dim() == 2:
            # DBRX stores its experts' matrices one below the other.
            tensor = tensor.view(self.site.n_experts, -1, tensor.shape[-1])
        return tensor.mT if self.transposed else tensor

    @torch.no_grad()
    def edited(self, tensor: Tensor, edit: SiteEdit) -> Tensor:
        """The stored tensor with its matrices edited, in its own type; one matrix at a time is computed in fp32."""
        result = tensor.clone()
        matrices = self.matrices(result)
        several = matrices.dim() == 3
        for number in range(len(matrices) if several else 1):
            matrix = matrices[number] if several else matrices
            own = edit
            if edit.left.dim() == 3:
                scale = None if edit.scale is None else edit.scale[number]
                own = SiteEdit(edit.left[number], edit.right[number], scale)
            # The one cast: the maths is fp32, and the checkpoint keeps its type.
            matrix.copy_(edit_weight(own, matrix.float()))
        return result


def match_sites(
    sites: Sequence[Site], tensors: Sequence[TensorInfo], directory: Path | None = None
) -> dict[str, Owner]:
    """The owner of each stored key that is some site's weight, or a part of it.

    A site is named as in the running model; a checkpoint may have other names. So: the same name; else the tensors that
    transformers loads it from, by the configuration in `directory`; else the key with the longest common dotted ending
    that reaches back to the layer's number, and of equals the one that shares most words of its prefix.

    Raises:
        ExportError: a site has no such key or several, two sites have the same, or the tensor there is quantised.
    """
    infos = {info.key: info for info in tensors}
    parts: Mapping[str, list[StoredPart]] | None = None
    owners: dict[str, Owner] = {}
    for site in sites:
        found = [StoredPart(site.key)] if site.key in infos else None
        if found is None:
            if parts is None:
                parts = {} if directory is None else stored_parts(directory, tensors)
            found = parts.get(site.key) or [StoredPart(_nearest(site, list(infos)))]
        for part in found:
            if part.key in owners:
                raise ExportError(
                    f"both {owners[part.key].site.key} and {site.key} of the model seem to be stored as {part.key}: "
                    "the checkpoint does not fit the model, use the one that it was loaded from"
                )
            owners[part.key] = Owner(site, site.transposed != part.swapped, part.expert)
            _check_editable(owners[part.key], infos[part.key])
    return owners


def _nearest(site: Site, keys: Sequence[str]) -> str:
    ranks = {key: rank for key in keys if (rank := _likeness(site, key)) is not None}
    best = max(ranks.values(), default=None)
    found = [key for key, rank in ranks.items() if rank == best]
    if len(found) == 1:
        return found[0]
    if found:
        raise ExportError(
            f"the weight {site.key} could be any of {', '.join(found[:3])} in the checkpoint. Use the "
            "checkpoint that the model was loaded from"
        )
    close = difflib.get_close_matches(site.key, keys, n=3, cutoff=0.0)
    raise ExportError(
        f"the checkpoint holds no weight {site.key}; the nearest names in it are {', '.join(close) or 'none'}: use the "
        "full-precision checkpoint that the model was loaded from"
    )


def _likeness(site: Site, key: str) -> tuple[int, int] | None:
    """Length of the common ending and number of prefix words in common, or None if the ending lacks the layer."""
    ours, theirs = site.key.split("."), key.split(".")
    common = 0
    while common < min(len(ours), len(theirs)) and ours[-1 - common] == theirs[-1 - common]:
        common += 1
    layer = str(site.layer)
    # The first such number is the layer's: a later one may count experts.
    if layer not in ours or common < len(ours) - ours.index(layer):
        return None
    return common, len(set(ours[:-common]) & set(theirs[:-common]))


def _check_editable(owner: Owner, info: TensorInfo) -> None:
    if info.dtype not in EDITABLE:
        raise ExportError(
            f"{info.key} is stored quantised ({info.dtype}) and an edit would be lost in its rounding: "
            "give the full-precision checkpoint of this model (float32, float16 or bfloat16)"
        )
    several = isinstance(owner.site, FusedExpertsSite) and owner.expert is None
    if len(info.shape) not in ((2, 3) if several else (2,)):
        raise ExportError(
            f"{info.key}, the weight of {owner.site.module}, should be a matrix and has the shape {info.shape}: "
            "use the checkpoint that the model was loaded from"
        )
