"""Which weights write to the residual stream: found by structure, proved by measuring.

A layer is run again by itself, with the outputs of all other candidate modules held at what they were. A perturbation
of a true writer's output then appears in the layer's output as it is (times a constant, or through a post-norm); of
any other module's, not at all. With the outputs of all sites set to zero a layer must pass its input through: what
remains would be a writer that nobody found.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..ablation.sites import Site
from ..errors import ModelError
from .layers import LayerCall, decoder_layers, hidden, hooks, record_calls, width

ATTENTION_NAMES = ("attn", "attention")
MLP_NAMES = ("mlp", "ffn", "feed_forward", "feedforward", "fc2", "dense_4h_to_h")


@dataclass(frozen=True, slots=True)
class Probe:
    """One decoder layer with a recorded call, and its modules that could write to the stream."""

    layer: nn.Module
    call: LayerCall
    candidates: dict[str, nn.Module]
    norms: dict[str, nn.Module]

    def run(
        self, replace: dict[str, Callable[[Tensor], Tensor]]
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Layer output (fp32), what went out of candidates and norms, and what went into the norms.

        `replace` maps a module's name to a function of its output.
        """
        outputs: dict[str, Tensor] = {}
        norm_inputs: dict[str, Tensor] = {}

        def swap(name: str, _: nn.Module, __: Any, output: Tensor) -> Tensor:
            # A copy: some layers (Falcon) add to what a module returned in place.
            outputs[name] = output.clone()
            return replace[name](output) if name in replace else output

        def watch(name: str, _: nn.Module, args: tuple[Any, ...]) -> None:
            if args:
                norm_inputs[name] = args[0].clone()

        watched = self.candidates | self.norms
        registrations = [partial(m.register_forward_hook, partial(swap, name)) for name, m in watched.items()]
        registrations += [partial(m.register_forward_pre_hook, partial(watch, name)) for name, m in self.norms.items()]
        with hooks(*registrations):
            output = hidden(self.layer(*self.call.args, **self.call.kwargs))
        return output.float(), outputs, norm_inputs


@torch.inference_mode()
def find_sites(model: Any) -> list[Site]:
    """Every site of the model, layer by layer.

    Raises:
        ModelError: a layer has no writer that we can see, or one more than we can see; it shows what was looked at.
    """
    prefix, layers = decoder_layers(model)
    device = model.get_input_embeddings().weight.device
    ids = torch.arange(3, 11, device=device)[None] % model.get_input_embeddings().weight.shape[0]
    d_model = width(model)
    calls = record_calls(model, layers, ids)
    sites: list[Site] = []
    for index, call in enumerate(calls):
        probe = _probe(layers[index], call, d_model)
        sites.extend(_layer_sites(probe, index, f"{prefix}.{index}"))
    return sites


def _probe(layer: nn.Module, call: LayerCall, d_model: int) -> Probe:
    linear = {name: m for name, m in layer.named_modules() if is_linear(m) and output_width(m) == d_model}
    norms = {name: m for name, m in layer.named_modules() if "norm" in type(m).__name__.lower()}
    return Probe(layer, call, linear, norms)


def is_linear(module: nn.Module) -> bool:
    """Whether the module is one matrix product: a Linear, its quantised relatives, or GPT-2's Conv1D."""
    return hasattr(module, "weight") and (hasattr(module, "out_features") or is_transposed(module))


def is_transposed(module: nn.Module) -> bool:
    """Whether the weight is stored (d_in, d_model): transformers' Conv1D."""
    return type(module).__name__ == "Conv1D"


def output_width(module: nn.Module) -> int:
    return int(module.nf) if is_transposed(module) else int(module.out_features)  # type: ignore[arg-type]


def site_shape(model: nn.Module, site: Site) -> tuple[int, ...]:
    """(d_model, d_in) of the site's weight, whichever way it is stored or quantised."""
    module: Any = model.get_submodule(site.module)
    return (int(module.nf), int(module.nx)) if is_transposed(module) else (module.out_features, module.in_features)


def _layer_sites(probe: Probe, index: int, name: str) -> list[Site]:
    base, outputs, norm_inputs = probe.run({})
    sites = []
    for candidate, module in probe.candidates.items():
        if candidate not in outputs:
            continue
        post_norm = next((n for n, value in norm_inputs.items() if _same(value, outputs[candidate])), None)
        if not _writes(probe, post_norm or candidate, base, outputs):
            continue
        full = f"{name}.{candidate}"
        sites.append(
            Site(
                layer=index,
                component=component_label(candidate),
                module=full,
                key=f"{full}.weight",
                transposed=is_transposed(module),
                post_norm=None if post_norm is None else f"{name}.{post_norm}",
            )
        )
    _check_complete(probe, sites, index, name)
    return sites


def _writes(probe: Probe, candidate: str, base: Tensor, outputs: dict[str, Tensor]) -> bool:
    """Whether a perturbation of the module's output appears, times a constant, in the layer's output."""
    frozen: dict[str, Callable[[Tensor], Tensor]] = {
        other: partial(_held, outputs[other])
        for other in outputs
        if other != candidate and outputs[other].numel() == base.numel()
    }
    written = outputs[candidate]
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(written.shape, generator=generator).to(written.device)
    step = noise * max(float(base.float().std()), 1e-3)
    changed, _, _ = probe.run(frozen | {candidate: lambda output: (output.float() + step).to(output.dtype)})
    difference = (changed - base).flatten()
    expected = step.reshape(difference.shape) if step.numel() == difference.numel() else None
    if expected is None or float(difference.norm()) < 1e-3 * float(step.norm()):
        return False
    return float(torch.nn.functional.cosine_similarity(difference, expected, dim=0)) > 0.99


def _held(value: Tensor, _: Tensor) -> Tensor:
    return value.clone()


def _same(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and torch.equal(first, second)


def _check_complete(probe: Probe, sites: list[Site], index: int, name: str) -> None:
    """With every site's output at zero, a layer passes its input on."""
    silent: dict[str, Callable[[Tensor], Tensor]] = {
        site.module.removeprefix(f"{name}."): torch.zeros_like for site in sites
    }
    output, _, _ = probe.run(silent)
    given = probe.call.args[0] if probe.call.args else probe.call.kwargs["hidden_states"]
    left = float((output - given.float()).norm())
    written = float((probe.call.output.float() - given.float()).norm())
    # What rounding leaves: a writer of a fraction of a percent is a writer.
    tolerance = 1e-3 if probe.call.output.dtype == torch.float32 else 0.02
    if sites and left <= tolerance * max(written, 1e-6):
        return
    looked = ", ".join(f"{n} ({type(m).__name__})" for n, m in probe.layer.named_modules() if is_linear(m))
    found = ", ".join(site.module for site in sites) or "none"
    share = 0.0 if written == 0 else left / written
    raise ModelError(
        f"Expected to find every weight of decoder layer {index} ({type(probe.layer).__name__}) that writes to the "
        f"residual stream; sites found: {found}; with these silenced, {share:.0%} of what the layer writes remains. "
        f"Linear modules seen: {looked or 'none'}. Mixtures of experts and hybrid layers are not supported yet."
    )


def component_label(name: str) -> str:
    """The usual name of a component from a module's path in its layer; an unknown one is its own label."""
    lowered = name.lower()
    if any(word in lowered for word in ATTENTION_NAMES):
        return "attn.o_proj"
    if any(word in lowered for word in MLP_NAMES):
        return "mlp.down_proj"
    return name
