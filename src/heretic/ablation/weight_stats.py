"""What compiling an edit must know of a weight; gathered once, so that a trial touches no weight."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class WeightStats:
    """Row norms n of a weight W, and G (gain ∘ v) for each direction v, with G = Wn Wnᵀ and Wn = W / n by rows.

    `gain` is what a post-norm multiplies each written feature by (None: nothing stands between site and stream).
    """

    row_norms: Float[Tensor, " d_model"]
    gram_directions: Float[Tensor, "residual d_model"]
    gain: Float[Tensor, " d_model"] | None = None


def weight_stats(
    weight: Float[Tensor, "d_model d_in"],
    vectors: Float[Tensor, "residual d_model"],
    gain: Float[Tensor, " d_model"] | None = None,
) -> WeightStats:
    """Statistics of one weight for all directions, fp32. G is linear in v, so interpolated directions need no other."""
    weight = weight.float()
    row_norms = weight.norm(dim=1)
    # `normalize` clamps the norm: a pruned row has norm 0, and 0/0 would poison the whole direction.
    unit_rows = torch.nn.functional.normalize(weight, dim=1)
    gained = vectors if gain is None else vectors * gain
    return WeightStats(row_norms, (gained @ unit_rows) @ unit_rows.mT, gain)
