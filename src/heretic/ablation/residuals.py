"""Mean residuals of a prompt set, added up batch by batch."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class ResidualStats:
    """Mean residual per layer over `count` prompts, fp32; index 0 is the embedding output."""

    mean: Float[Tensor, "residual d_model"]
    count: int


def winsorize(
    residuals: Float[Tensor, "prompt residual d_model"], quantile: float
) -> Float[Tensor, "prompt residual d_model"]:
    """Each residual clamped to the `quantile` of its own magnitudes; 1.0 changes nothing.

    A few features of large models carry magnitudes a hundred times the rest and would decide the mean alone.
    """
    if quantile >= 1.0:
        return residuals
    limit = torch.quantile(residuals.abs().float(), quantile, dim=-1, keepdim=True)
    return residuals.clamp(-limit, limit)


class ResidualFitter:
    """Adds up residuals in fp64 and gives their mean."""

    def __init__(self, winsorization_quantile: float = 1.0) -> None:
        self._quantile = winsorization_quantile
        self._sum: Tensor | None = None
        self._count = 0

    def update(self, residuals: Float[Tensor, "prompt residual d_model"]) -> None:
        batch = winsorize(residuals.float(), self._quantile).double().sum(dim=0).cpu()
        self._sum = batch if self._sum is None else self._sum + batch
        self._count += len(residuals)

    def fit(self) -> ResidualStats:
        """The statistics of all that was seen.

        Raises:
            ValueError: no residual was seen.
        """
        if self._sum is None:
            raise ValueError("no residual was seen: call update first")
        return ResidualStats((self._sum / self._count).float(), self._count)
