"""Edits of tiny models: compiled, and merged into their weights."""

from collections.abc import Sequence

import torch
from torch import Tensor

from heretic.ablation.directions import Directions
from heretic.ablation.edit import ModelEdit, edit_weight
from heretic.ablation.methods.kernel.compile import compile_edit
from heretic.ablation.methods.kernel.parameters import KernelParameters
from heretic.ablation.parameters import AblationParameters, WeightKernel
from heretic.ablation.sites import PostNorm, Site, components_of
from heretic.ablation.weight_stats import weight_stats
from heretic.model.sites.feature_gain import measured_gain
from heretic.model.sites.find import site_weight

MODES = ("none", "pre", "full")
IDS = torch.arange(10)[None].repeat(3, 1) + torch.arange(3)[:, None] + 5


def parameters(sites: Sequence[Site], strength: float, index: float = 1.0) -> AblationParameters:
    kernel = WeightKernel(max_weight=strength, max_weight_position=2, min_weight=0.5, min_weight_distance=1.5)
    kernels = dict.fromkeys(components_of(tuple(sites)), kernel)
    return KernelParameters(direction_scope="global", direction_index=index, kernels=kernels)


def directions_for(width: int) -> Directions:
    vectors = torch.randn(4, width, generator=torch.Generator().manual_seed(3))
    return Directions(torch.nn.functional.normalize(vectors, dim=1))


def weight_of(model: torch.nn.Module, site: Site) -> Tensor:
    weight = model.get_submodule(site.module).weight
    return weight.mT if site.transposed else weight


def gain_of(model: torch.nn.Module, site: Site, width: int) -> Tensor | None:
    if not isinstance(site.downstream, PostNorm):
        return None
    return measured_gain(model.get_submodule(site.downstream.name), width)


@torch.no_grad()
def compiled(model: torch.nn.Module, sites: list[Site], strength: float, mode: str) -> ModelEdit:
    width = weight_of(model, sites[0]).shape[0]
    directions = directions_for(width)
    stats = {s.module: weight_stats(weight_of(model, s), directions.vectors, gain_of(model, s, width)) for s in sites}
    return compile_edit(parameters(sites, strength), directions, sites, stats, mode)


@torch.no_grad()
def compiled_all(model: torch.nn.Module, sites: Sequence[Site], mode: str = "full") -> ModelEdit:
    directions = directions_for(32)
    stats = {site.module: weight_stats(site_weight(model, site), directions.vectors) for site in sites}
    return compile_edit(parameters(sites, 1.0, 0.5), directions, sites, stats, mode)


@torch.no_grad()
def merge_in_place(model: torch.nn.Module, sites: list[Site], edit: ModelEdit) -> None:
    for site in sites:
        if site.module in edit:
            weight = weight_of(model, site)
            weight.copy_(edit_weight(edit[site.module], weight.float()))
