"""Statistics of a weight that compiling an edit needs, gathered once, so that a trial reads no weight."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class WeightStats:
    """Row norms n of a weight W, and G (gain ∘ v) for each direction v, with G = Wn Wnᵀ and Wn = W / n by rows.

    `gain` is what a post-norm multiplies each written feature by (None: there is no norm between site and stream). A
    weight of several experts has statistics for each.
    """

    row_norms: Float[Tensor, "*experts d_model"]
    gram_directions: Float[Tensor, "*experts residual d_model"]
    gain: Float[Tensor, " d_model"] | None = None


def weight_stats(
    weight: Float[Tensor, "*experts d_model d_in"],
    vectors: Float[Tensor, "residual d_model"],
    gain: Float[Tensor, " d_model"] | None = None,
) -> WeightStats:
    """Statistics of one weight for all directions, fp32. G is linear in v, so interpolated directions need no other."""
    gained = vectors if gain is None else vectors * gain
    if weight.dim() > 2:
        # An expert at a time: together in fp32 they may be larger than the model.
        return stacked([weight_stats(matrix, vectors, gain) for matrix in weight])
    weight = weight.float()
    row_norms = weight.norm(dim=-1)
    # `normalize` clamps the norm: a pruned row has norm 0, and 0/0 would poison the whole direction.
    unit_rows = torch.nn.functional.normalize(weight, dim=-1)
    return WeightStats(row_norms, (gained @ unit_rows) @ unit_rows.mT, gain)


def stacked(parts: Sequence[WeightStats]) -> WeightStats:
    """Statistics of experts as those of the weight that holds them all, in this order; of one such weight, itself."""
    if len(parts) == 1 and parts[0].row_norms.dim() == 2:
        return parts[0]
    norms = torch.stack([part.row_norms for part in parts])
    return WeightStats(norms, torch.stack([part.gram_directions for part in parts]), parts[0].gain)
