"""The parts of a model that an ablation can edit: kinds of layers, and the sites of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..ablation.sites import FusedExpertsSite, MeasuredGain, PostNorm, Site, components_of
from ..config import ModelSettings
from ..errors import ConfigError
from ..events import Reporter
from ..model.layers import decoder_layers, width
from ..model.loading.checkpoint import find_checkpoint
from ..model.loading.load import load_decoder
from ..model.sites.expert_selection import with_chosen_experts
from ..model.sites.find import find_sites, site_shape
from ..session.remote_code import settle_trust


@dataclass(frozen=True, slots=True)
class InspectedSite:
    """One site of a kind of layer; `module` is its name within the layer.

    `shape` is (d_model, d_in), with the number of experts before it where the site holds several; `chosen` are those of
    them that are edited (None: all).
    """

    component: str
    module: str
    shape: tuple[int, ...]
    transposed: bool
    post_norm: str | None
    chosen: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class LayerKind:
    """Layers of the same class with the same sites."""

    layers: tuple[int, ...]
    layer_class: str
    sites: tuple[InspectedSite, ...]


@dataclass(frozen=True, slots=True)
class Inspection:
    """A model's sites, by kind of layer."""

    model: str
    model_class: str
    dtype: str
    parameters: int
    d_model: int
    layer_list: str
    n_layers: int
    components: tuple[str, ...]
    n_sites: int
    kinds: tuple[LayerKind, ...]


def inspect_model(settings: ModelSettings, reporter: Reporter) -> Inspection:
    """Loads the model, without tokenizer and chat template, finds its sites and proves them.

    Raises:
        ModelError: it can't be loaded, or something other than the sites found writes to the residual stream.
    """
    if settings.model is None:
        raise ConfigError("Expected a model, got none. Name a directory, a .gguf file or a hub id.")
    checkpoint = find_checkpoint(settings.model, settings.model_commit, reporter)
    settings = settle_trust(settings, checkpoint, reporter)
    with reporter.step(f"Loading {checkpoint.name}"):
        model = load_decoder(checkpoint, settings, reporter.say)
    with reporter.step("Finding sites"):
        sites = with_chosen_experts(find_sites(model), settings.experts)
    return describe(checkpoint.name, model, sites)


def describe(name: str, model: Any, sites: Sequence[Site]) -> Inspection:
    """The inspection of a model in memory with its sites."""
    prefix, layers = decoder_layers(model)
    return Inspection(
        model=name,
        model_class=type(model).__name__,
        dtype=str(model.dtype).removeprefix("torch."),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        d_model=width(model),
        layer_list=prefix,
        n_layers=len(layers),
        components=components_of(tuple(sites)),
        n_sites=len(sites),
        kinds=_kinds(model, prefix, layers, sites),
    )


def _kinds(model: nn.Module, prefix: str, layers: nn.ModuleList, sites: Sequence[Site]) -> tuple[LayerKind, ...]:
    alike: dict[tuple[str, tuple[InspectedSite, ...]], list[int]] = {}
    for index, layer in enumerate(layers):
        start = f"{prefix}.{index}."
        found = tuple(_inspected(model, site, start) for site in sites if site.layer == index)
        alike.setdefault((type(layer).__name__, found), []).append(index)
    return tuple(LayerKind(tuple(indices), *kind) for kind, indices in alike.items())


def _inspected(model: nn.Module, site: Site, start: str) -> InspectedSite:
    post_norm = site.downstream.name.removeprefix(start) if isinstance(site.downstream, PostNorm) else None
    if isinstance(site.downstream, MeasuredGain):
        post_norm = "several (measured)"
    return InspectedSite(
        site.component,
        site.module.removeprefix(start),
        site_shape(model, site),
        site.transposed,
        post_norm,
        site.chosen if isinstance(site, FusedExpertsSite) else None,
    )
