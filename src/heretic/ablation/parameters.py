"""What the sampler suggests and a trial stores: numbers only."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

DirectionScope = Literal["global", "per layer"]
RowNormalization = Literal["none", "pre", "full"]
"""Weight rows as they are, normalised, or normalised and restored to their norm."""


class WeightKernel(BaseModel):
    """Ablation strength by layer for one component: a tent around `max_weight_position`, cut off at its edges."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_weight: float
    max_weight_position: float
    min_weight: float
    min_weight_distance: float = Field(gt=0)

    def weight(self, layer: int) -> float:
        """Strength at `layer`: linear from max_weight to min_weight over min_weight_distance layers, 0 beyond."""
        distance = abs(layer - self.max_weight_position)
        if distance > self.min_weight_distance:
            return 0.0
        return self.max_weight + distance / self.min_weight_distance * (self.min_weight - self.max_weight)


class AblationParameters(BaseModel):
    """One candidate. `direction_index` counts layers and is used when the scope is global."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    direction_scope: DirectionScope
    direction_index: float
    kernels: dict[str, WeightKernel]
