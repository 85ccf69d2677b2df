"""Whether gradients reach a model's edits, measured on the model itself before anything is learned from them."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ...ablation.methods.learned.layout import Layout, compile_learned
from ...errors import NoGradientError
from ..protocol import MEMORY_ERRORS, out_of_memory
from .forward import AnswerForward, EditedForward
from .rows import Row, ScoredRow

STRENGTH = 0.3
SIZES = (0.02, 0.05, 0.1)
"""Changes of all strengths, for finite differences: in bfloat16 a small one drowns in rounding, a large one bends."""
WITHIN = 3.0
"""A right gradient and a finite difference of some size differ by less than this factor; a wrong gradient by more, or
in sign. It need not be exact: no gradient at all, or one that a layer blocks, is what models are found to have."""


def gradient_fault(forward: AnswerForward, layout: Layout, d_model: int, rows: Sequence[Row]) -> str | None:
    """Why gradients of this model can't be learned from, as part of a sentence; None where they are right.

    The loss is the log-probability of the rows' answers under random directions of the layout. All strengths move along
    the sign of their gradient, so that the slope is the sum of its magnitudes.
    """
    scored = [ScoredRow(row, tuple(range(len(row.answer)))) for row in rows]
    draw = torch.Generator().manual_seed(0)
    vectors = normalize(torch.randn(layout.n_groups, d_model, 1, generator=draw), dim=1)
    device = forward.device
    tensors = {
        "directions": vectors.to(device),
        "strengths": torch.full((len(layout.sites), 1), STRENGTH, device=device, requires_grad=True),
    }
    try:
        forward.prepare(rows)
        with torch.inference_mode(False), torch.enable_grad():
            gradient = _gradient(forward, layout, tensors, scored)
    except NoGradientError as error:
        return error.reason
    except MEMORY_ERRORS as error:
        if out_of_memory(error):
            return None
        # Autograd's words for an operation without a derivative, or for a tensor that was changed in place.
        return f"this family computes without autograd ({str(error).splitlines()[0][:200]})"
    slope = float(gradient.abs().sum())
    if not 0 < slope < float("inf"):
        return f"the gradient of the strengths is {'zero' if slope == 0 else 'not finite'}"
    differences = []
    for size in SIZES:
        moved = [tensors["strengths"].detach() + side * size * gradient.sign() for side in (1, -1)]
        above, below = (_value(forward, layout, tensors | {"strengths": each}, scored) for each in moved)
        differences.append((above - below) / (2 * size))
        if slope / WITHIN < differences[-1] < slope * WITHIN:
            return None
    closest = max(differences)
    return f"its gradients are wrong: a slope of {slope:.3g} nats, where finite differences have {closest:.3g}"


def _gradient(
    forward: AnswerForward, layout: Layout, tensors: dict[str, Tensor], scored: Sequence[ScoredRow]
) -> Tensor:
    with forward.edited([compile_learned(tensors, layout)]) as edited:
        # Inside the block: the backward pass may recompute layers.
        [found] = torch.autograd.grad(_loss(edited, scored), tensors["strengths"])
    return found


@torch.no_grad()
def _value(forward: AnswerForward, layout: Layout, tensors: dict[str, Tensor], scored: Sequence[ScoredRow]) -> float:
    with forward.edited([compile_learned(tensors, layout)]) as edited:
        return float(_loss(edited, scored))


def _loss(edited: EditedForward, scored: Sequence[ScoredRow]) -> Tensor:
    _, found, batch = edited([], scored, torch.zeros(len(scored), dtype=torch.long))
    return (found * batch.counted.to(found.device)).sum()
