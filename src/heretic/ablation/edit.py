"""The edit: a small linear map on what a weight writes.

With y = W x, W: (d_model, d_in), an edit is

    W  ->  diag(scale) (I - left rightᵀ) W,        y  ->  scale ∘ (y - left (rightᵀ y)).

Columns of W are vectors in output space, so one kernel serves weights and outputs alike (docs/architecture.md).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .sites import FusedExpertsSite, Site


@dataclass(frozen=True, slots=True)
class SiteEdit:
    """The edit of one site, fp32; leading dimensions, if any, count candidates, rows of a batch or experts."""

    left: Float[Tensor, "*batch d_model rank"]
    right: Float[Tensor, "*batch d_model rank"]
    scale: Float[Tensor, "*batch d_model"] | None = None

    @property
    def rank(self) -> int:
        return self.left.shape[-1]


ModelEdit = Mapping[str, SiteEdit]
"""Edits by the site's module name; a site without an entry stays as it is."""


def edit_output(edit: SiteEdit, output: Float[Tensor, "*batch row d_model"]) -> Float[Tensor, "*batch row d_model"]:
    """What the edited weight would have written instead of `output` (without bias), fp32."""
    edited = output.float()
    edited = edited - (edited @ edit.right) @ edit.left.mT
    return edited if edit.scale is None else edited * edit.scale.unsqueeze(-2)


def edit_rows(
    edit: SiteEdit, candidates: Int[Tensor, " row"], output: Float[Tensor, "row d_model"]
) -> Float[Tensor, "row d_model"]:
    """`edit_output` of each row by the edit of its own candidate, fp32; `edit` has a leading dimension of candidates.

    Two matrix products with the factors of all candidates side by side, and between them what is not a row's own set
    to 0: no copy of the factors for each row. Factors must be finite.
    """
    n_candidates, d_model, rank = edit.left.shape
    own = candidates[:, None] == torch.arange(n_candidates, device=output.device)
    left, right = (factor.mT.reshape(n_candidates * rank, d_model) for factor in (edit.left, edit.right))
    written = output.float()
    along = (written @ right.T).view(-1, n_candidates, rank) * own[:, :, None]
    edited = torch.addmm(written, along.flatten(1), left, alpha=-1)
    return edited if edit.scale is None else edited * edit.scale.index_select(0, candidates)


def edit_weight(
    edit: SiteEdit, weight: Float[Tensor, "*experts d_model d_in"]
) -> Float[Tensor, "*experts d_model d_in"]:
    """The edited weight, fp32."""
    return edit_output(edit, weight.mT).mT


def edit_of_matrices(edit: SiteEdit, matrices: int | Tensor) -> SiteEdit:
    """The edits of some experts out of those of all: one of them, or one for each number in `matrices`."""
    scale = None if edit.scale is None else edit.scale[matrices]
    return SiteEdit(edit.left[matrices], edit.right[matrices], scale)


def of_chosen_experts(edit: SiteEdit, site: Site) -> SiteEdit:
    """The edit with the experts that were not chosen left as they are.

    An edit of one matrix is of a checkpoint that holds each expert as a tensor: its reader leaves the others out.
    """
    if not isinstance(site, FusedExpertsSite) or site.chosen is None or edit.left.dim() == 2:
        return edit
    others = torch.ones(len(edit.left), dtype=torch.bool)
    others[list(site.chosen)] = False
    left = edit.left.masked_fill(others[:, None, None], 0.0)
    scale = None if edit.scale is None else edit.scale.masked_fill(others[:, None], 1.0)
    return SiteEdit(left, edit.right, scale)


def stack_edits(edits: Sequence[SiteEdit | None]) -> SiteEdit:
    """Edits of one site by several candidates as one, leading dimension: candidate. None leaves the site as it is.

    Raises:
        ValueError: all are None.
    """
    present = [edit for edit in edits if edit is not None]
    if not present:
        raise ValueError("no candidate edits this site")
    rank = max(edit.rank for edit in present)
    blank = torch.zeros(*present[0].left.shape[:-1], rank, device=present[0].left.device)
    ones = torch.ones(blank.shape[:-1], device=blank.device)

    def padded(factor: Tensor) -> Tensor:
        return torch.nn.functional.pad(factor, (0, rank - factor.shape[-1]))

    left = torch.stack([blank if edit is None else padded(edit.left) for edit in edits])
    right = torch.stack([blank if edit is None else padded(edit.right) for edit in edits])
    if all(edit.scale is None for edit in present):
        return SiteEdit(left, right)
    scales = [ones if edit is None or edit.scale is None else edit.scale for edit in edits]
    return SiteEdit(left, right, torch.stack(scales))
