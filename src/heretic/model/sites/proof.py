"""The proof that a weight writes to the residual stream.

A layer is run again by itself, with everything beside one candidate held at what it was. A disturbance of a true
writer's output then appears in the layer's output as it is, times a number for each position (a router's weight, a
residual multiplier, the coefficient of a hyper-connection), or in the input of a module that acts on each feature alone
and whose own output appears so (a post-norm). Of any other module's it appears otherwise, or not at all.

Some layers have more between a writer and the stream: a norm and then a gate for each feature (Muse Spark), scales of
both branches (Doge, ZAYA). There the layer as a whole must act on each feature of what the candidate writes alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .feature_gain import acts_on_features
from .probe import LayerProbe, Observation


@dataclass(frozen=True, slots=True)
class Candidate:
    """What might write to the stream: the modules at `paths` (several: one expert each), or a loose parameter."""

    paths: tuple[str, ...]
    loose: bool = False


@dataclass(frozen=True, slots=True)
class Proof:
    """What a candidate's output meets on its way to the stream: nothing, the module at `behind`, or several things that
    multiply each feature by `gain`, (d_model,), up to one number for all."""

    behind: str = ""
    gain: Tensor | None = None


def proved(probe: LayerProbe, base: Observation, candidate: Candidate) -> Proof | None:
    """The candidate's way to the stream: as it is, or behind one module. None: neither."""
    step, change = _disturbance(probe, base, candidate)
    for held in _held(probe, base, candidate.paths):
        disturbed = probe.run(dict.fromkeys(candidate.paths, change), held)
        if _appears(disturbed.output - base.output, step, probe):
            return Proof()
    for name, value in disturbed.inputs.items():
        before = base.inputs.get(name)
        if before is None or before.shape != value.shape or value.numel() != step.expand_as(base.output[:, :1]).numel():
            continue
        difference = (value.float() - before.float()).reshape(-1, 1, probe.d_model)
        if _appears(difference, step, probe) and _passes_on(probe, base, name):
            return Proof(behind=name)
    return None


def proved_through_layer(probe: LayerProbe, base: Observation, candidate: Candidate) -> Proof | None:
    """The candidate with the gain of all that its output meets in the layer; None where there is no such gain.

    What the layer makes of a vector in the place of the candidate's output, less what it makes of zeros, is
    number · (gain ∘ vector), at every position and for any vector; ones give the gain itself.
    """
    ones = torch.ones(probe.d_model, device=base.output.device)
    others = torch.randn(2, probe.d_model, generator=torch.Generator().manual_seed(2)).to(ones.device)
    for held in _held(probe, base, candidate.paths):

        def made_of(vector: Tensor, held: dict[str, list[Any]] = held) -> Tensor:
            def change(output: Tensor) -> Tensor:
                return vector.to(output.dtype).expand_as(output)

            # Without the stream itself, so that 16 bits are enough for what is added to it.
            return probe.run(dict.fromkeys(candidate.paths, change), held, empty=True).output

        silence = made_of(torch.zeros_like(ones))
        gains = made_of(ones) - silence
        gain = gains.flatten(0, 1)[gains.norm(dim=-1).argmax()]
        if all(_appears(made_of(each) - silence, (gain * each)[None, None], probe) for each in (ones, *others)):
            return Proof(gain=(gain / gain.norm().clamp_min(1e-12)).cpu())
    return None


def _passes_on(probe: LayerProbe, base: Observation, name: str) -> bool:
    """Whether the module acts on each feature alone, and its output appears in the layer's as it is."""
    module = probe.modules[name]
    outputs = base.outputs.get(name, [])
    if len(outputs) != 1 or not isinstance(outputs[0], Tensor) or not acts_on_features(module, probe.d_model):
        return False
    step, change = _disturbance(probe, base, Candidate((name,)))
    return any(
        _appears(probe.run({name: change}, held).output - base.output, step, probe)
        for held in _held(probe, base, (name,))
    )


def whole(probe: LayerProbe, base: Observation, path: str) -> bool:
    """Whether the module ran once and wrote d_model features at every position."""
    outputs = base.outputs.get(path, [])
    return len(outputs) == 1 and outputs[0].numel() == len(base.output) * probe.d_model


def _held(probe: LayerProbe, base: Observation, paths: Sequence[str]) -> Iterator[dict[str, list[Any]]]:
    """What to hold while `paths` are disturbed: other blocks as a whole; where one adds the stream itself (BLOOM), or
    is entered by another door than its forward (Gemma 3n's AltUp), their matrices alone."""
    for others in (probe.others(paths), probe.other_matrices(paths)):
        yield {name: base.outputs[name] for name in others if name in base.outputs}


def _disturbance(probe: LayerProbe, base: Observation, candidate: Candidate) -> tuple[Tensor, Any]:
    """Noise, (positions, 1, d_model), and the function that adds it to what a module writes.

    Experts get a part of the positions, in an order of their own: to them the noise is the same at every position.
    """
    generator = torch.Generator().manual_seed(0)
    tokens = len(base.output)
    dense = len(candidate.paths) == 1 and not candidate.loose and whole(probe, base, candidate.paths[0])
    noise = torch.randn(tokens if dense else 1, probe.d_model, generator=generator).to(base.output.device)
    step = noise * max(float(base.output.std()), 1e-3)

    def change(output: Tensor) -> Tensor:
        return (output.float() + (step.view(output.shape) if dense else step[0])).to(output.dtype)

    return step[:, None], change


def _appears(difference: Tensor, step: Tensor, probe: LayerProbe) -> bool:
    """Whether at each position and stream `difference` is the step times a number, and is there at all."""
    exact = probe.call.output.dtype == torch.float32
    norms = difference.norm(dim=-1)
    largest = float(norms.max())
    if not largest > 1e-3 * float(step.norm(dim=-1).max()):
        return False
    # In 16 bits, what is small beside the stream is mostly rounding.
    there = norms > (0.01 if exact else 0.3) * largest
    alike = torch.nn.functional.cosine_similarity(difference, step.expand_as(difference), dim=-1).abs()
    return bool((alike[there] > (0.9999 if exact else 0.99)).all())
