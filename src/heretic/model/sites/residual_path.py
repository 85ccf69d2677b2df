"""Whether a layer passes its input on unchanged when nothing is written to it."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

N_ROUNDS = 30
"""Rounds of alternating least squares: the fit converges linearly, and 30 rounds bring it to fp32 rounding."""

Streams = Float[Tensor, "position stream d_model"]
OneStream = Float[Tensor, "position d_model"]


def unexplained_norm(output: Streams, given: Streams, gains: Sequence[Float[Tensor, " d_model"]] = ()) -> float:
    """The norm of the part of `output` that is not `given` passed on, fp32.

    A layer may pass its input on in one of these ways, of which the best fit counts:

    - each position as a combination of its streams (of one stream: a multiple, as with a layer's scalar);
    - the same plus a combination of its streams times one gain: an identity expert, or a branch around the layer,
      passes on the output of a norm of the layer (LongCat, Gemma 3n); `gains` are those of the layer's norms;
    - each feature scaled and shifted (ZAYA);
    - each feature scaled after the position is rescaled (MiniMax keeps its stream normalised).
    """
    best = float(_less_combination(output, given).norm())
    enough = 1e-5 * float(output.norm())  # fp32 rounding of sums over d_model features
    for gain in gains:
        if best > enough:
            both = torch.cat([given, given * gain.to(given.device)], dim=1)
            best = min(best, float(_less_combination(output, both).norm()))
    if best > enough and output.shape[1] == 1 and len(output) > 2:
        out, into = output[:, 0], given[:, 0]
        best = min(best, float(_less_affine(out, into).norm()), float(_less_rescaled(out, into).norm()))
    return best


def _less_combination(output: Streams, given: Float[Tensor, "position basis d_model"]) -> Streams:
    """The output less its projection on the position's own streams."""
    basis, _ = torch.linalg.qr(given.mT.double())
    out = output.double()
    return (out - (out @ basis) @ basis.mT).float()


def _less_affine(output: OneStream, given: OneStream) -> OneStream:
    """The output less its best affine function of each feature alone, over all positions."""
    return _less_gain(output - output.mean(dim=0), given - given.mean(dim=0))


def _less_rescaled(output: OneStream, given: OneStream) -> OneStream:
    """The output less its best fit given ∘ gain times one number for each position, by alternating least squares."""
    scale = _root_mean_square(output) / _root_mean_square(given)
    for _ in range(N_ROUNDS):
        gain = (output * scale * given).sum(dim=0) / (scale * given).square().sum(dim=0).clamp_min(1e-20)
        gained = given * gain
        scale = (output * gained).sum(dim=-1, keepdim=True) / gained.square().sum(dim=-1, keepdim=True).clamp_min(1e-20)
    return output - scale * gained


def _less_gain(output: OneStream, given: OneStream) -> OneStream:
    """The output less its best fit given ∘ gain."""
    gain = (output * given).sum(dim=0) / given.square().sum(dim=0).clamp_min(1e-20)
    return output - gain * given


def _root_mean_square(value: OneStream) -> Float[Tensor, "position 1"]:
    return value.square().mean(dim=-1, keepdim=True).sqrt().clamp_min(1e-12)
