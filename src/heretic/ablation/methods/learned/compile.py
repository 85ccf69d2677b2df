"""The stored form of learned tensors, and the site edits that they compile to.

A direction a layer, `direction.LAYER` (d_model, rank), and the strengths of each site, `strength.MODULE` (rank,).
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from ...directions import Directions
from ...edit import SiteEdit
from ...sites import Site, components_of
from ..tensors import StudyTensors
from .layout import Layout, LearnedTensors, compile_learned
from .parameters import LearnedParameters

DIRECTION, STRENGTH = "direction.", "strength."


def kept_tensors(tensors: LearnedTensors, layout: Layout) -> dict[str, Tensor]:
    """The tensors by layer and site.

    Raises:
        ValueError: sites of one layer have directions of their own, or readers are learned apart.
    """
    if len({site.layer for site in layout.sites}) != layout.n_groups or "readers" in tensors:
        raise ValueError("expected one direction a layer that is read and written alike")
    sites = zip(layout.sites, layout.groups, tensors["strengths"], strict=True)
    kept = {}
    for site, group, strengths in sites:
        kept[f"{DIRECTION}{site.layer}"] = tensors["directions"][group].detach().cpu().clone()
        kept[f"{STRENGTH}{site.module}"] = strengths.detach().cpu().clone()
    return kept


def scaled(kept: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """The same directions with `scale` times the strengths."""
    return {name: scale * each if name.startswith(STRENGTH) else each for name, each in kept.items()}


def compile_site(parameters: LearnedParameters, site: Site, tensors: StudyTensors) -> SiteEdit | None:
    """The edit of one site, or None where none was learned."""
    kept = tensors.store[parameters.tensors]
    strengths = kept.get(f"{STRENGTH}{site.module}")
    if strengths is None:
        return None
    learned = {"directions": kept[f"{DIRECTION}{site.layer}"][None], "strengths": strengths[None]}
    layout = Layout((site,), (0,), (tensors.gains.get(site.module),))
    return compile_learned(learned, layout)[site.module]


def strengths_by_layer(kept: Mapping[str, Tensor], layout: Layout, n_layers: int) -> dict[str, tuple[float, ...]]:
    """By component the mean strength at each layer, over sites and ranks; 0 where nothing is edited."""
    found: dict[str, list[list[float]]] = {name: [[] for _ in range(n_layers)] for name in components_of(layout.sites)}
    for site in layout.sites:
        found[site.component][site.layer] += kept[f"{STRENGTH}{site.module}"].tolist()
    return {
        component: tuple(round(sum(each) / max(1, len(each)), 4) for each in layers)
        for component, layers in found.items()
    }


def cosines_with(kept: Mapping[str, Tensor], directions: Directions, n_layers: int) -> tuple[float, ...]:
    """At each layer the largest cosine, by size, between a learned direction and the difference of means."""
    cosines = torch.zeros(n_layers)
    for layer in range(n_layers):
        learned = kept.get(f"{DIRECTION}{layer}")
        if learned is not None:
            found = cosine_similarity(learned, directions.vectors[layer + 1][:, None].float(), dim=0)
            cosines[layer] = found[found.abs().argmax()]
    return tuple(round(float(each), 4) for each in cosines)
