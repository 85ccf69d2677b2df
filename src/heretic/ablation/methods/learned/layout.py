"""What is learned: directions and strengths, compiled into the edit of section 1 of the architecture.

At site s with group g(s) (its layer, or itself), unit writers d and readers r, rank R:

    y -> y - sum_k w[s, k] d[g, k] (r[g, k] . y)         left = w d,  right = r

Without separate readers, r = d: an orthogonal projection for w = 1. At a site followed by a post-norm of gain c, the
edit removes normalize(c ∘ d), so that d is removed from the stream. Directions by gradient: Wollschläger et al. 2025,
arXiv 2502.17420.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from ...directions import Directions
from ...edit import ModelEdit, SiteEdit, of_chosen_experts
from ...sites import FusedExpertsSite, Site

Scope = Literal["layer", "site"]
"""Whether the sites of one layer share a direction."""

LearnedTensors = Mapping[str, Tensor]
"""`directions` (group, d_model, rank), `strengths` (site, rank) and, where readers are learned apart, `readers`
(group, d_model, rank); fp32."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The edited sites, the group of each, and the gain of the post-norm that follows each (None: no post-norm)."""

    sites: tuple[Site, ...]
    groups: tuple[int, ...]
    gains: tuple[Tensor | None, ...]

    @property
    def n_groups(self) -> int:
        return max(self.groups) + 1

    @property
    def first_layer(self) -> int:
        return min(site.layer for site in self.sites)


def layout_of(
    sites: Sequence[Site], gains: Mapping[str, Tensor | None], first_layer: int, scope: Scope = "layer"
) -> Layout:
    """The sites from `first_layer` on, in groups by layer or each by itself; `gains` by module name.

    Raises:
        ValueError: no site is left.
    """
    edited = tuple(site for site in sites if site.layer >= first_layer)
    if not edited:
        raise ValueError(f"no site at layer {first_layer} or above: the last is at {max(s.layer for s in sites)}")
    keys: list[int] = [site.layer if scope == "layer" else index for index, site in enumerate(edited)]
    order = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return Layout(edited, tuple(order[key] for key in keys), tuple(gains.get(site.module) for site in edited))


def start_at_means(
    layout: Layout, directions: Sequence[Directions], strength: float, readers: bool = False, further: float = 0.0
) -> dict[str, Tensor]:
    """Initial tensors: the layers' directions, one a rank, orthogonalised; the first has `strength`, the others
    `further`."""
    layers = dict(zip(layout.groups, (site.layer for site in layout.sites), strict=True))
    rows = torch.tensor([layers[group] + 1 for group in range(layout.n_groups)])
    stacked = torch.stack([each.vectors[rows] for each in directions], dim=-1)
    orthogonal, triangle = torch.linalg.qr(stacked)
    # QR does not determine the signs: each column gets back its original one.
    orthogonal = (orthogonal * triangle.diagonal(dim1=-2, dim2=-1).sign()[:, None]).contiguous()
    strengths = torch.full((len(layout.sites), len(directions)), further)
    strengths[:, 0] = strength
    start = {"directions": orthogonal, "strengths": strengths}
    return start | ({"readers": orthogonal.clone()} if readers else {})


def principal_directions(
    residuals: Float[Tensor, "prompt residual d_model"], known: Directions, count: int
) -> list[Directions]:
    """Further unit directions, one a residual index each: along them the bad prompts differ most among themselves.

    Principal components of the bad prompts' residuals, without their mean and their projection on `known`. A behaviour
    that the difference of means does not capture shows there first.
    """
    centred = (residuals - residuals.mean(dim=0)).double().transpose(0, 1)
    along = known.vectors.double()[:, None]
    centred = centred - (centred * along).sum(-1, keepdim=True) * along
    components = torch.linalg.svd(centred, full_matrices=False)[2]
    return [Directions(components[:, number].float().contiguous()) for number in range(count)]


def compile_learned(tensors: LearnedTensors, layout: Layout) -> ModelEdit:
    """The edit of every site of the layout, differentiable in the tensors."""
    groups = list(layout.groups)
    writers = tensors["directions"][groups]
    readers = tensors["readers"][groups] if "readers" in tensors else None
    if any(gain is not None for gain in layout.gains):
        # To remove d from the stream after a gain, the edit removes gain∘d at the site (methods/kernel/compile.py).
        ones = torch.ones(writers.shape[1])
        gains = torch.stack([ones if gain is None else gain.float().cpu() for gain in layout.gains])
        writers = writers * gains.to(writers.device)[..., None]
    writers = normalize(writers, dim=1)
    lefts = (writers * tensors["strengths"][:, None]).unbind()
    rights = (writers if readers is None else readers).unbind()
    edits = zip(layout.sites, lefts, rights, strict=True)
    return {site.module: _for_experts(SiteEdit(left, right), site) for site, left, right in edits}


def _for_experts(edit: SiteEdit, site: Site) -> SiteEdit:
    """The edit with a copy for each of a site's fused experts."""
    if not isinstance(site, FusedExpertsSite):
        return edit
    shape = (site.n_experts, *edit.left.shape)
    return of_chosen_experts(SiteEdit(edit.left.expand(shape), edit.right.expand(shape)), site)


def detached(tensors: LearnedTensors) -> dict[str, Tensor]:
    """A copy on the CPU, which later steps don't change."""
    return {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
