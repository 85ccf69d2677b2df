"""Known reasons why no edit of a weight removes a direction from the residual stream of a family."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .probe import LayerProbe, Observation
from .proof import Candidate, is_gated

SAME = 0.01
"""Relative difference of a norm's outputs for an input and its multiple: its epsilon, and rounding in 16 bits."""


def reason_unfit(probe: LayerProbe, base: Observation, unproved: Sequence[Candidate]) -> str | None:
    """Why what the layer's weights write can't be edited, as a clause; None where the reason is not known.

    `unproved` are the candidates that were not proved to write to the stream.
    """
    norm = _norm_of_the_stream(probe, base)
    if norm is not None:
        return f"{norm} normalises the sum of the layer's input and what its weights write (post-norm)"
    gated = [path for candidate in unproved if is_gated(probe, base, candidate) for path in candidate.paths]
    if gated:
        return f"the output of {', '.join(gated)} is multiplied by a gate that differs from token to token"
    return None


def _norm_of_the_stream(probe: LayerProbe, base: Observation) -> str | None:
    """The norm whose output is that of the layer."""
    for name, outputs in base.outputs.items():
        last, given = outputs[-1], base.inputs.get(name)
        if given is None or not isinstance(last, Tensor) or last.numel() != base.output.numel():
            continue
        same = torch.equal(last.float().reshape(base.output.shape), base.output)
        if same and _normalises(probe.modules[name], given):
            return name
    return None


def _normalises(module: nn.Module, given: Tensor) -> bool:
    """Whether the module, which has no others inside, gives the same for its input and for a multiple of that."""
    if [*module.children()] or not [*module.parameters()]:
        return False
    try:
        once, enlarged = module(given).float(), module(4 * given).float()
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError):
        # It takes more than a hidden state, or returns more.
        return False
    return float((enlarged - once).norm()) < SAME * float(once.norm())
