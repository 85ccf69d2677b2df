"""Directions of a behaviour in the residual stream."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .residuals import ResidualStats


class DegenerateDirection(ValueError):
    """Good and bad means coincide at some layer, or a value is not finite, so there is no direction."""


@dataclass(frozen=True, slots=True)
class Directions:
    """Unit vectors from the good mean to the bad mean, one a residual index (0: the embedding output), fp32."""

    vectors: Float[Tensor, "residual d_model"]

    @property
    def last_layer(self) -> int:
        """L, the index of the last decoder layer."""
        return len(self.vectors) - 2


def find_directions(good: ResidualStats, bad: ResidualStats, *, orthogonalize: bool = True) -> Directions:
    """Unit vectors from the good mean to the bad mean, one a layer.

    Difference of means at the last prompt token (Arditi et al. 2024, arXiv 2406.11717, section 2.3). With
    `orthogonalize`, the part along the good mean is removed before normalising: what ablation then takes from the
    stream is no part of an ordinary answer.

    Raises:
        DegenerateDirection: the two means coincide at a decoder layer's output, or hold NaN or inf.
    """
    difference = bad.mean.double() - good.mean.double()
    if orthogonalize:
        along = torch.nn.functional.normalize(good.mean.double(), dim=-1)
        difference = difference - (difference * along).sum(-1, keepdim=True) * along
    norms = difference.norm(dim=-1, keepdim=True)
    # The embedding output of the last token is often the same for all prompts (the template's end): index 0 may be 0.
    floor = 1e-6 * bad.mean.double().norm(dim=-1, keepdim=True).clamp_min(1e-12)
    for layer, (norm, least) in enumerate(zip(norms[1:], floor[1:], strict=True)):
        if not bool(norm > least):
            raise DegenerateDirection(f"good and bad residuals have the same mean after layer {layer}")
    unit = torch.where(norms > floor, difference / norms.clamp_min(1e-300), torch.zeros_like(difference))
    return Directions(unit.float())


def interpolation(direction_index: float, n_residuals: int) -> Float[Tensor, " residual"]:
    """Weights over residual indices that pick the float `direction_index`; index i addresses the output of layer i.

    Raises:
        ValueError: the index lies outside 0 .. last layer.
    """
    if not 0 <= direction_index <= n_residuals - 2:
        raise ValueError(f"direction_index must lie in 0 .. {n_residuals - 2}, got {direction_index}")
    below = math.floor(direction_index)
    fraction = direction_index - below
    weights = torch.zeros(n_residuals)
    weights[below + 1] = 1.0 - fraction
    if fraction:
        weights[below + 2] = fraction
    return weights
