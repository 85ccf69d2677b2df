"""The proof that a weight writes to the residual stream.

A layer is run again by itself, with everything but one candidate held at its earlier outputs. A perturbation of a true
writer's output appears in the layer's output unchanged, up to a number for each position (a router's weight, a residual
multiplier, the coefficient of a hyper-connection), or it appears so in the input of a module that acts on each feature
alone and whose own output appears so (a post-norm). Perturbations of other modules are changed or disappear.

Some layers have more between a writer and the stream: a norm and then a gate for each feature (Muse Spark), or scales
of both branches (Doge, ZAYA). There the layer as a whole must act on each feature of the candidate's output alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .feature_gain import acts_on_features
from .probe import Change, LayerProbe, Observation

STEP_FLOOR = 1e-3
"""Least standard deviation of a perturbation, for layers whose output is all but zero."""

MIN_EFFECT = 1e-3
"""Share of the perturbation's norm: a smaller effect counts as none. The smallest residual multipliers in use are some
hundredths."""


GATE_ROUNDING = {True: 1e-4, False: 0.03}
"""Share of what a gated output adds that may be rounding, in fp32 and in 16 bits."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A possible writer: the modules at `paths` (several: one expert each), or a bare parameter."""

    paths: tuple[str, ...]
    bare: bool = False


@dataclass(frozen=True, slots=True)
class Proof:
    """What a candidate's output meets on its way to the stream: nothing, the module at `downstream_norm`, or several
    operations that multiply each feature by `gain`, up to one number for all."""

    downstream_norm: str = ""
    gain: Float[Tensor, " d_model"] | None = None


def prove(probe: LayerProbe, base: Observation, candidate: Candidate) -> Proof | None:
    """The candidate's way to the stream, directly or through one module; None: neither."""
    step, change = _perturbation(probe, base, candidate)
    for held in _held(probe, base, candidate.paths):
        perturbed = probe.run(dict.fromkeys(candidate.paths, change), held)
        if _is_multiple(perturbed.output - base.output, step, probe):
            return Proof()
    for name, value in perturbed.inputs.items():
        before = base.inputs.get(name)
        if before is None or before.shape != value.shape or value.numel() != step.expand_as(base.output[:, :1]).numel():
            continue
        difference = (value.float() - before.float()).reshape(-1, 1, probe.d_model)
        if _is_multiple(difference, step, probe) and _passes_on(probe, base, name):
            return Proof(downstream_norm=name)
    return None


def prove_through_layer(probe: LayerProbe, base: Observation, candidate: Candidate) -> Proof | None:
    """The candidate with the gain of everything that its output meets in the layer; None where there is no such gain.

    With the candidate's output replaced by a vector, less the same with zeros, the layer's output must be
    number · (gain ∘ vector), at every position and for any vector; ones give the gain itself.
    """
    vectors = _vectors(base, 2)
    for held in _held(probe, base, candidate.paths):
        added = _added(probe, candidate, held, vectors)
        gains = added[0].flatten(0, 1)
        gain = gains[gains.norm(dim=-1).argmax()]
        if all(_is_multiple(each, (gain * v)[None, None], probe) for each, v in zip(added, vectors, strict=True)):
            return Proof(gain=(gain / gain.norm().clamp_min(1e-12)).cpu())
    return None


def is_gated(probe: LayerProbe, base: Observation, candidate: Candidate) -> bool:
    """Whether each feature of the candidate's output is multiplied by a gate, another one at each position.

    With the candidate's output replaced by a vector, less the same with zeros, the layer's output must be
    gates ∘ vector for any vector; ones give the gates.
    """
    ones, other = _vectors(base, 1)
    rounding = GATE_ROUNDING[probe.call.output.dtype == torch.float32]
    for held in _held(probe, base, candidate.paths):
        gates, found = _added(probe, candidate, held, (ones, other))
        present = float(gates.norm()) > MIN_EFFECT * float(ones.norm())
        if present and float((found - gates * other).norm()) <= rounding * float(found.norm()):
            return True
    return False


def _added(
    probe: LayerProbe, candidate: Candidate, held: dict[str, list[Any]], vectors: Sequence[Float[Tensor, " d_model"]]
) -> list[Float[Tensor, "position stream d_model"]]:
    """What the layer adds for each vector in place of the candidate's output: its output less that for zeros."""

    def output_for(vector: Tensor) -> Tensor:
        def change(output: Tensor) -> Tensor:
            return vector.to(output.dtype).expand_as(output)

        # Without the stream itself, so that 16 bits suffice for what is added to it.
        return probe.run(dict.fromkeys(candidate.paths, change), held, empty=True).output

    silence = output_for(torch.zeros_like(vectors[0]))
    return [output_for(vector) - silence for vector in vectors]


def _vectors(base: Observation, count: int) -> list[Float[Tensor, " d_model"]]:
    """Ones, and `count` random vectors."""
    random = torch.randn(count, base.output.shape[-1], generator=torch.Generator().manual_seed(2))
    return [each.to(base.output.device) for each in (torch.ones(random.shape[-1]), *random)]


def _passes_on(probe: LayerProbe, base: Observation, name: str) -> bool:
    """Whether the module acts on each feature alone, and its output appears in the layer's unchanged."""
    module = probe.modules[name]
    outputs = base.outputs.get(name, [])
    if len(outputs) != 1 or not isinstance(outputs[0], Tensor) or not acts_on_features(module, probe.d_model):
        return False
    step, change = _perturbation(probe, base, Candidate((name,)))
    return any(
        _is_multiple(probe.run({name: change}, held).output - base.output, step, probe)
        for held in _held(probe, base, (name,))
    )


def covers_all_positions(probe: LayerProbe, base: Observation, path: str) -> bool:
    """Whether the module ran once and wrote d_model features at every position."""
    outputs = base.outputs.get(path, [])
    return len(outputs) == 1 and outputs[0].numel() == len(base.output) * probe.d_model


def _held(probe: LayerProbe, base: Observation, paths: Sequence[str]) -> Iterator[dict[str, list[Any]]]:
    """Outputs to hold while `paths` are perturbed: those of other blocks as a whole; where a block adds the stream
    itself (BLOOM), or is entered by another method than its forward (Gemma 3n's AltUp), those of its matrices alone."""
    for others in (probe.other_blocks(paths), probe.other_matrices(paths)):
        yield {name: base.outputs[name] for name in others if name in base.outputs}


def _perturbation(
    probe: LayerProbe, base: Observation, candidate: Candidate
) -> tuple[Float[Tensor, "position 1 d_model"], Change]:
    """Noise, and the function that adds it to a module's output.

    Experts get some of the positions, in an order of their own: for them the noise is the same at every position.
    """
    generator = torch.Generator().manual_seed(0)
    dense = len(candidate.paths) == 1 and not candidate.bare and covers_all_positions(probe, base, candidate.paths[0])
    noise = torch.randn(len(base.output) if dense else 1, probe.d_model, generator=generator).to(base.output.device)
    step = noise * max(float(base.output.std()), STEP_FLOOR)

    def change(output: Tensor) -> Tensor:
        return (output.float() + (step.view(output.shape) if dense else step[0])).to(output.dtype)

    return step[:, None], change


def _is_multiple(
    difference: Float[Tensor, "position stream d_model"], step: Float[Tensor, "_ 1 d_model"], probe: LayerProbe
) -> bool:
    """Whether `difference` is the step times a number at each position and stream, and not zero everywhere."""
    exact = probe.call.output.dtype == torch.float32
    norms = difference.norm(dim=-1)
    largest = float(norms.max())
    # Negated, so that NaN fails.
    if not largest > MIN_EFFECT * float(step.norm(dim=-1).max()):
        return False
    # In 16 bits, a small difference of two large outputs is mostly rounding: only large ones are compared.
    present = norms > (0.01 if exact else 0.3) * largest
    cosines = torch.nn.functional.cosine_similarity(difference, step.expand_as(difference), dim=-1).abs()
    # Rounding leaves a cosine of 1 - 1e-6 in fp32 and 1 - 1e-3 in bfloat16; another direction is far below.
    return bool((cosines[present] > (0.9999 if exact else 0.99)).all())
