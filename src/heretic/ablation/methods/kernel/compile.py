"""From numbers to tensors: `KernelParameters` and a site's statistics give its edit in O(d_model)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ...directions import Directions, interpolation
from ...edit import ModelEdit, SiteEdit, of_chosen_experts
from ...parameters import RowNormalization
from ...sites import Site
from ...weight_stats import WeightStats
from .parameters import KernelParameters

ROW_NORMALIZATIONS = ("none", "pre", "full")


def compile_edit(
    parameters: KernelParameters,
    directions: Directions,
    sites: Sequence[Site],
    stats: Mapping[str, WeightStats],
    row_normalization: RowNormalization = "full",
) -> ModelEdit:
    """The edit of every site whose kernel is not zero at its layer; `stats` by module name.

    Raises:
        ValueError: a site's component has no kernel, or the mode is unknown.
    """
    edits = {}
    for site in sites:
        edit = compile_site(parameters, directions, site, stats[site.module], row_normalization)
        if edit is not None:
            edits[site.module] = edit
    return edits


def compile_site(
    parameters: KernelParameters,
    directions: Directions,
    site: Site,
    stats: WeightStats,
    row_normalization: RowNormalization,
) -> SiteEdit | None:
    """The edit of one site, or None where its kernel is zero.

    With strength w, unit direction v, row norms n and g = G v (docs/architecture.md):

        none   left = w v        right = v        scale = None
        pre    left = w n∘v      right = v / n    scale = None
        full   left = w n∘v      right = v / n    scale = 1 / sqrt(1 - 2 w v∘g + w² v² (v·g))
    """
    if site.component not in parameters.kernels:
        raise ValueError(f"no kernel for {site.component}: the candidate has {sorted(parameters.kernels)}")
    strength = parameters.kernels[site.component].weight(site.layer)
    if strength == 0.0:
        return None
    index = parameters.direction_index if parameters.direction_scope == "global" else float(site.layer)
    v, g = _direction(directions, stats, index)
    n = stats.row_norms
    if row_normalization == "none":
        right = v.expand_as(n)
        return of_chosen_experts(SiteEdit(strength * right[..., None], right[..., None]), site)
    left = strength * n * v
    # A zero row writes nothing: any finite value serves, and 0 keeps the product exact.
    right = torch.where(n > 0, v / n, torch.zeros_like(n))
    if row_normalization == "pre":
        return of_chosen_experts(SiteEdit(left[..., None], right[..., None]), site)
    if row_normalization != "full":
        raise ValueError(f"row_normalization must be one of {ROW_NORMALIZATIONS}, got {row_normalization!r}")
    squared = 1 - 2 * strength * v * g + strength**2 * v**2 * (g @ v)[..., None]
    # A zero row has g = 0, and what is left of it stays 0 whatever the scale.
    return of_chosen_experts(SiteEdit(left[..., None], right[..., None], squared.clamp_min(1e-12).rsqrt()), site)


def _direction(directions: Directions, stats: WeightStats, index: float) -> tuple[Tensor, Tensor]:
    """Unit direction at a site's output, (d_model,), and G times it, (*experts, d_model).

    To remove v from the stream after a post-norm with gain, the site must lose gain∘v: v·(gain∘y) = (gain∘v)·y.
    """
    weights = interpolation(index, len(directions.vectors)).to(directions.vectors.device)
    v = weights @ directions.vectors
    if stats.gain is not None:
        v = v * stats.gain
    # `gram_directions` holds G (gain∘v) already, so one factor normalises both.
    factor = 1.0 / v.norm().clamp_min(1e-12)
    return v * factor, torch.einsum("r,...rd->...d", weights, stats.gram_directions) * factor
