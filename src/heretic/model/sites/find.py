"""Which weights write to the residual stream: found by structure, proved by measuring.

How a writer is proved says proof.py. With the outputs of all sites at zero, a layer must pass its input on: what
remains would be a writer that nobody found.
"""

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...ablation.sites import Site
from ...errors import ModelError
from ..layers import decoder_layers, probe_tokens, record_calls, width
from ..loading.quantization import dense_weight
from ..placement import is_offloaded, present
from .components import classes_along, component_label
from .feature_gain import acts_on_features, measured_gain
from .probe import LayerProbe, Observation, is_linear, is_transposed, output_width
from .proof import Candidate, Proof, proved, proved_through_layer, whole
from .residual_path import unexplained_norm

POSITIONS = 12


@torch.inference_mode()
def find_sites(model: Any) -> list[Site]:
    """Every site of the model, layer by layer.

    Raises:
        ModelError: a layer has a writer that is not accounted for; it shows what was looked at.
    """
    prefix, layers = decoder_layers(model)
    calls = record_calls(model, layers, probe_tokens(model, POSITIONS))
    d_model = width(model)
    sites: list[Site] = []
    for index, call in enumerate(calls):
        probe = LayerProbe(layers[index], call, d_model)
        sites.extend(_layer_sites(probe, index, f"{prefix}.{index}"))
    return sites


def site_shape(model: nn.Module, site: Site) -> tuple[int, ...]:
    """(d_model, d_in) of the site's weight, with the number of experts before it where it holds several, whichever
    way it is stored or quantised."""
    module: Any = model.get_submodule(site.module)
    if is_transposed(module):
        return int(module.nf), int(module.nx)
    if is_linear(module):
        return int(module.out_features), int(module.in_features)
    return tuple(site_weight(model, site).shape)


def site_weight(model: nn.Module, site: Site) -> Tensor:
    """The site's weight as it stands in memory, (d_model, d_in), or (experts, d_model, d_in)."""
    path, _, name = site.key.rpartition(".")
    owner = model.get_submodule(path)
    weight: Tensor = dense_weight(owner) if is_linear(owner) else _present_parameter(owner, name)
    if site.experts is not None and weight.dim() == 2:
        # DBRX stores its experts' matrices one below the other.
        weight = weight.view(site.experts, -1, weight.shape[-1])
    return weight.mT if site.transposed else weight


def _present_parameter(owner: nn.Module, name: str) -> Tensor:
    offloaded = is_offloaded(owner)
    with present(owner):
        parameter: Tensor = getattr(owner, name)
        return parameter.clone() if offloaded else parameter


def _layer_sites(probe: LayerProbe, index: int, name: str) -> list[Site]:
    base = probe.run()
    candidates = _candidates(probe, base)
    proofs = {candidate: proved(probe, base, candidate) for candidate in candidates}

    def sites() -> list[Site]:
        found = [(candidate, proof) for candidate, proof in proofs.items() if proof is not None]
        return [site for each in found for site in _sites_of(probe, base, *each, index, name)]

    if _remains(probe, base, sites(), name):
        # Between a writer and the stream there may be more than a norm; that takes longer to look for.
        proofs |= {each: proved_through_layer(probe, base, each) for each, proof in proofs.items() if proof is None}
    share = _remains(probe, base, sites(), name)
    if share:
        raise ModelError(_incomplete(probe, sites(), share, index, name))
    return sites()


def _candidates(probe: LayerProbe, base: Observation) -> list[Candidate]:
    """Linear modules and loose parameters that write d_model features; experts of one list are one candidate."""
    groups: dict[str, list[str]] = {}
    for path, module in probe.linear.items():
        if output_width(module) == probe.d_model:
            groups.setdefault(_pattern(probe.layer, path), []).append(path)
    candidates: list[Candidate] = []
    for paths in groups.values():
        if all(whole(probe, base, path) for path in paths):
            # Blocks of one list that are all given every position are no experts (LongCat has two of each a layer).
            candidates += [Candidate((path,)) for path in paths]
        elif any(path in base.outputs for path in paths):
            candidates.append(Candidate(tuple(paths)))
    return candidates + [Candidate((name,), loose=True) for name in base.products]


def _pattern(layer: nn.Module, path: str) -> str:
    """The path with a star for each number of a list of modules: experts differ in it alone."""
    parts = path.split(".")
    parents = [layer.get_submodule(".".join(parts[:place])) if place else layer for place in range(len(parts))]
    lists = [isinstance(parent, nn.ModuleList) and len(parent) > 1 for parent in parents]
    return ".".join("*" if listed else part for part, listed in zip(parts, lists, strict=True))


def _sites_of(
    probe: LayerProbe, base: Observation, candidate: Candidate, proof: Proof, index: int, name: str
) -> list[Site]:
    first = candidate.paths[0]
    owner = first.rpartition(".")[0] if candidate.loose else first
    label = component_label(owner or first, classes_along(probe.layer, owner) if owner else ())
    product = base.products.get(first) if candidate.loose else None
    many = len(candidate.paths) > 1
    block = _block(probe, owner) if many or candidate.loose else None
    module = f"{name}.{owner}" if owner else name
    return [
        Site(
            layer=index,
            component=label,
            module=module if candidate.loose else f"{name}.{path}",
            key=f"{name}.{path}" if candidate.loose else f"{name}.{path}.weight",
            transposed=product.transposed if product else is_transposed(probe.modules[path]),
            post_norm=f"{name}.{proof.behind}" if proof.behind else name if proof.gain is not None else None,
            gain=proof.gain,
            experts=product.count if product and (product.count > 1 or probe.loose[path].dim() == 3) else None,
            expert=int(re.findall(r"\d+", path)[-1]) if many else None,
            block=None if block is None else f"{name}.{block}" if block else name,
        )
        for path in candidate.paths
    ]


def _block(probe: LayerProbe, path: str) -> str:
    """The outermost module around `path` that is given whole rows of a batch; "" if that is the layer alone."""
    parts = path.split(".")
    for end in range(1, len(parts) + 1):
        name = ".".join(parts[:end])
        value = probe.observed_input(name)
        if value is not None and value.dim() == 3 and value.shape[0] == probe.rows:
            return name
    return ""


def _gains(probe: LayerProbe) -> list[Tensor]:
    """The gains of the layer's modules that act on each feature alone."""
    found = []
    for name, module in probe.modules.items():
        value = probe.observed_input(name)
        simple = not (is_linear(module) or [*module.children()]) and [*module.parameters()]
        if (
            simple
            and value is not None
            and value.shape[-1] == probe.d_model
            and acts_on_features(module, probe.d_model)
        ):
            found.append(measured_gain(module, probe.d_model))
    return found


def _remains(probe: LayerProbe, base: Observation, sites: Sequence[Site], name: str) -> float:
    """The share of what a layer writes that is still there with every site's output at zero; 0.0 where the layer then
    passes its input on, but for rounding."""
    modules = {site.key.removeprefix(f"{name}.").removesuffix(".weight"): torch.zeros_like for site in sites}
    loose = {key for key in (site.key.removeprefix(f"{name}.") for site in sites) if key in probe.loose}
    silent = probe.run(modules | dict.fromkeys(loose, torch.zeros_like), silenced=probe.biases_beside(loose))
    exact = probe.call.output.dtype == torch.float32
    left = unexplained_norm(silent.output, probe.given, _gains(probe))
    written = float((base.output - silent.output).norm())
    # What rounding leaves: a writer of a fraction of a percent is a writer.
    if left <= (1e-3 if exact else 0.02) * written + (1e-5 if exact else 1e-2) * float(base.output.norm()):
        return 0.0
    return left / max(float((base.output - probe.given).norm()), 1e-12)


def _incomplete(probe: LayerProbe, sites: Sequence[Site], share: float, index: int, name: str) -> str:
    looked = ", ".join(f"{n} ({type(m).__name__})" for n, m in probe.linear.items())
    found = ", ".join(site.key.removesuffix(".weight") for site in sites) or "none"
    return (
        f"Expected to find every weight of decoder layer {index} ({type(probe.layer).__name__}) that writes to the "
        f"residual stream; sites found: {found}; with these silenced, {share:.0%} of what the layer writes remains. "
        f"Linear modules seen: {looked or 'none'}. Please report this text with the model's name."
    )
