"""Whether a layer passes its input on when nothing is written to it."""

from collections.abc import Sequence

import torch
from torch import Tensor

ROUNDS = 30


def unexplained_norm(output: Tensor, given: Tensor, gains: Sequence[Tensor] = ()) -> float:
    """The norm of what in `output` is not `given` passed on; both (positions, streams, d_model), fp32.

    A stream may be passed on in one of these ways, and what remains of the best one counts:

    - each position a combination of its streams (of one stream: a multiple, as with a layer's scalar);
    - the same, and of its streams times one gain: an identity expert, or a branch around the layer, hands on what a
      norm of the layer gives (LongCat, Gemma 3n); `gains` are those of the layer's norms, (d_model,) each;
    - each feature scaled and shifted on its way (ZAYA);
    - each feature scaled after the position is brought to another length (MiniMax keeps its stream normalised).
    """
    best = float(_combined(output, given).norm())
    enough = 1e-5 * float(output.norm())
    for gain in gains:
        if best > enough:
            both = torch.cat([given, given * gain.to(given.device)], dim=1)
            best = min(best, float(_combined(output, both).norm()))
    if best > enough and output.shape[1] == 1 and len(output) > 2:
        out, into = output[:, 0], given[:, 0]
        best = min(best, float(_affine(out, into).norm()), float(_normalised(out, into).norm()))
    return best


def _combined(output: Tensor, given: Tensor) -> Tensor:
    """What is no combination of the position's own streams; a position that holds nothing passes nothing on."""
    basis, _ = torch.linalg.qr(given.mT.double())
    out = output.double()
    return (out - (out @ basis) @ basis.mT).float()


def _affine(output: Tensor, given: Tensor) -> Tensor:
    """What is no affine function of each feature alone, over all positions."""
    out, into = output - output.mean(dim=0), given - given.mean(dim=0)
    return _scaled(out, into)


def _normalised(output: Tensor, given: Tensor) -> Tensor:
    """What is not given ∘ gain times a number for each position, fitted by alternating least squares."""
    scale = _root_mean_square(output) / _root_mean_square(given)
    for _ in range(ROUNDS):
        gain = (output * scale * given).sum(dim=0) / (scale * given).square().sum(dim=0).clamp_min(1e-20)
        gained = given * gain
        scale = (output * gained).sum(dim=-1, keepdim=True) / gained.square().sum(dim=-1, keepdim=True).clamp_min(1e-20)
    return output - scale * gained


def _scaled(output: Tensor, given: Tensor) -> Tensor:
    gain = (output * given).sum(dim=0) / given.square().sum(dim=0).clamp_min(1e-20)
    return output - gain * given


def _root_mean_square(value: Tensor) -> Tensor:
    return value.square().mean(dim=-1, keepdim=True).sqrt().clamp_min(1e-12)
