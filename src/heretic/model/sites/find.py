"""Finds the weights that write to the residual stream: candidates by structure, proved by measuring (proof.py).

With the outputs of all sites set to zero, a layer must pass its input on: anything else is the output of a writer that
was not found.
"""

import re
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Num
from torch import Tensor, nn

from ...ablation.sites import ExpertSite, FusedExpertsSite, MeasuredGain, PostNorm, Site
from ...errors import ModelError
from ..layers import decoder_layers, probe_tokens, record_calls, width
from ..loading.quantization import dense_weight
from ..placement import is_offloaded, present
from .components import classes_along, component_label
from .feature_gain import acts_on_features, measured_gain
from .probe import LayerProbe, Observation, is_linear, is_transposed, output_width
from .proof import Candidate, Proof, covers_all_positions, prove, prove_through_layer
from .residual_path import unexplained_norm
from .unfit import reason_unfit

N_POSITIONS = 12
"""Tokens of the probe: more than the streams and taps of any family, so that no fit is exact by chance; routers choose
several experts."""

FLOAT32_SHARE, FLOAT16_SHARE = 1e-3, 0.02
"""Share of a layer's output that may remain as rounding: a writer of a fraction of a percent must still be found."""

FLOAT32_ROUNDING, FLOAT16_ROUNDING = 1e-5, 1e-2
"""Share of the stream's norm that may remain as rounding."""


@torch.inference_mode()
def find_sites(model: Any) -> list[Site]:
    """Every site of the model, layer by layer.

    Raises:
        ModelError: a layer has a writer that was not found; it lists the modules that were examined.
    """
    prefix, layers = decoder_layers(model)
    calls = record_calls(model, layers, probe_tokens(model, N_POSITIONS))
    d_model = width(model)
    sites: list[Site] = []
    for index, call in enumerate(calls):
        probe = LayerProbe(layers[index], call, d_model)
        sites.extend(_layer_sites(probe, index, f"{prefix}.{index}"))
    return sites


def site_shape(model: nn.Module, site: Site) -> tuple[int, ...]:
    """(d_model, d_in) of the site's weight, preceded by the number of experts of fused ones, however it is stored or
    quantised."""
    module: Any = model.get_submodule(site.module)
    if is_transposed(module):
        return int(module.nf), int(module.nx)
    if is_linear(module):
        return int(module.out_features), int(module.in_features)
    return tuple(site_weight(model, site).shape)


def site_weight(model: nn.Module, site: Site) -> Num[Tensor, "*experts d_model d_in"]:
    """The site's weight in memory; fused experts have a leading dimension."""
    path, _, name = site.key.rpartition(".")
    owner = model.get_submodule(path)
    weight: Tensor = dense_weight(owner) if is_linear(owner) else _present_parameter(owner, name)
    if isinstance(site, FusedExpertsSite) and weight.dim() == 2:
        # DBRX stores its experts' matrices one below the other.
        weight = weight.view(site.n_experts, -1, weight.shape[-1])
    return weight.mT if site.transposed else weight


def _present_parameter(owner: nn.Module, name: str) -> Tensor:
    offloaded = is_offloaded(owner)
    with present(owner):
        parameter: Tensor = getattr(owner, name)
        return parameter.clone() if offloaded else parameter


def _layer_sites(probe: LayerProbe, index: int, name: str) -> list[Site]:
    base = probe.run()
    candidates = _candidates(probe, base)
    proofs = {candidate: prove(probe, base, candidate) for candidate in candidates}

    def sites() -> list[Site]:
        found = [(candidate, proof) for candidate, proof in proofs.items() if proof is not None]
        return [site for each in found for site in _sites_of(probe, base, *each, index, name)]

    if _unexplained_share(probe, base, sites(), name):
        # Between a writer and the stream there may be more than a norm, which takes longer to find.
        proofs |= {each: prove_through_layer(probe, base, each) for each, proof in proofs.items() if proof is None}
    share = _unexplained_share(probe, base, sites(), name)
    if share:
        reason = reason_unfit(probe, base, [candidate for candidate, proof in proofs.items() if proof is None])
        if reason is not None:
            raise ModelError(_unfit(probe, index, reason))
        raise ModelError(_incomplete(probe, sites(), share, index, name))
    return sites()


def _candidates(probe: LayerProbe, base: Observation) -> list[Candidate]:
    """Linear modules and bare parameters that write d_model features; experts of one list are one candidate."""
    groups: dict[str, list[str]] = {}
    for path, module in probe.linear.items():
        # A part of a sharded module writes fewer features than the module as a whole.
        if output_width(module) == probe.d_model and _writes(base, path, probe.d_model):
            groups.setdefault(_pattern(probe.layer, path), []).append(path)
    candidates: list[Candidate] = []
    for paths in groups.values():
        if all(covers_all_positions(probe, base, path) for path in paths):
            # Blocks of one list that all see every position are no experts (LongCat has two of each a layer).
            candidates += [Candidate((path,)) for path in paths]
        elif any(path in base.outputs for path in paths):
            candidates.append(Candidate(tuple(paths)))
    return candidates + [Candidate((name,), bare=True) for name in base.products]


def _writes(base: Observation, path: str, width: int) -> bool:
    """Whether all observed outputs of a module have so many features; True for one that did not run."""
    return all(not isinstance(each, Tensor) or each.shape[-1] == width for each in base.outputs.get(path, []))


def _pattern(layer: nn.Module, path: str) -> str:
    """The path with a star for each index into a list of modules, by which alone experts differ."""
    parts = path.split(".")
    parents = [layer.get_submodule(".".join(parts[:place])) if place else layer for place in range(len(parts))]
    lists = [isinstance(parent, nn.ModuleList) and len(parent) > 1 for parent in parents]
    return ".".join("*" if listed else part for part, listed in zip(parts, lists, strict=True))


def _sites_of(
    probe: LayerProbe, base: Observation, candidate: Candidate, proof: Proof, index: int, name: str
) -> list[Site]:
    first = candidate.paths[0]
    owner = first.rpartition(".")[0] if candidate.bare else first
    fields: dict[str, Any] = {
        "layer": index,
        "component": component_label(owner or first, classes_along(probe.layer, owner) if owner else ()),
        "downstream": _downstream(proof, name),
    }
    if candidate.bare:
        product = base.products[first]
        fields |= {"module": _joined(name, owner), "key": f"{name}.{first}", "transposed": product.transposed}
        return [FusedExpertsSite(**fields, n_experts=product.count, block=_joined(name, _block(probe, owner)))]
    sites: list[Site] = []
    for path in candidate.paths:
        module = f"{name}.{path}"
        fields |= {"module": module, "key": f"{module}.weight", "transposed": is_transposed(probe.modules[path])}
        if len(candidate.paths) == 1:
            sites.append(Site(**fields))
        else:
            expert = int(re.findall(r"\d+", path)[-1])
            sites.append(ExpertSite(**fields, expert=expert, block=_joined(name, _block(probe, first))))
    return sites


def _downstream(proof: Proof, layer: str) -> PostNorm | MeasuredGain | None:
    if proof.downstream_norm:
        return PostNorm(f"{layer}.{proof.downstream_norm}")
    return None if proof.gain is None else MeasuredGain(proof.gain)


def _joined(layer: str, path: str) -> str:
    return f"{layer}.{path}" if path else layer


def _block(probe: LayerProbe, path: str) -> str:
    """The outermost module around `path` that is given whole rows of a batch; "" for the layer itself."""
    parts = path.split(".")
    for end in range(1, len(parts) + 1):
        name = ".".join(parts[:end])
        value = probe.observed_input(name)
        if value is not None and value.dim() == 3 and value.shape[0] == probe.rows:
            return name
    return ""


def _gains(probe: LayerProbe) -> list[Tensor]:
    """Gains of the layer's modules that act on each feature alone."""
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


def _unexplained_share(probe: LayerProbe, base: Observation, sites: Sequence[Site], name: str) -> float:
    """The share of the layer's output that remains with every site's output at zero; 0.0 where the layer then passes
    its input on, up to rounding."""
    keys = [site.key.removeprefix(f"{name}.") for site in sites]
    modules = {key.removesuffix(".weight"): torch.zeros_like for key in keys}
    bare = {key for key in keys if key in probe.bare_parameters}
    silent = probe.run(modules | dict.fromkeys(bare, torch.zeros_like), silenced=probe.biases_of(bare))
    exact = probe.call.output.dtype == torch.float32
    left = unexplained_norm(silent.output, probe.given, _gains(probe))
    written = float((base.output - silent.output).norm())
    share, rounding = (FLOAT32_SHARE, FLOAT32_ROUNDING) if exact else (FLOAT16_SHARE, FLOAT16_ROUNDING)
    if left <= share * written + rounding * float(base.output.norm()):
        return 0.0
    return left / max(float((base.output - probe.given).norm()), 1e-12)


def _unfit(probe: LayerProbe, index: int, reason: str) -> str:
    return (
        f"Expected decoder layers that add what their weights write to the residual stream, but in layer {index} "
        f"({type(probe.layer).__name__}) {reason}. So no edit of a weight removes a direction from the stream, and "
        "models of this family can't be searched. Use a model of another family (docs/coverage.md)."
    )


def _incomplete(probe: LayerProbe, sites: Sequence[Site], share: float, index: int, name: str) -> str:
    seen = ", ".join(f"{n} ({type(m).__name__})" for n, m in probe.linear.items())
    found = ", ".join(site.key.removesuffix(".weight") for site in sites) or "none"
    return (
        f"Expected to find every weight of decoder layer {index} ({type(probe.layer).__name__}) that writes to the "
        f"residual stream; sites found: {found}; with their outputs at zero, {share:.0%} of the layer's output "
        f"remains. Linear modules seen: {seen or 'none'}. Please report this text with the model's name."
    )
