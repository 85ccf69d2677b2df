"""What all methods' parameters have in common, and the strength by layer that several of them use."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

MethodName = Literal["kernel", "oblique", "learned"]
"""Names of the methods in methods/registry.py."""

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
    """One candidate, as the study records it: numbers, and digests of tensors that are stored next to the journal.

    `method` names the method that compiles it; `kernels` are its strengths by component. Where `sampled` is False, a
    sampler can't draw it, and its trial holds all of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sampled: ClassVar[bool] = True

    version: Literal[1] = 1
    method: str
    kernels: dict[str, WeightKernel]

    @property
    def digests(self) -> tuple[str, ...]:
        """Digests of the stored tensors, next to the journal, that it names."""
        return ()

    @property
    def fault(self) -> str | None:
        """Why it can't be used; None: it can."""
        return None

    def by_layer(self, layers: Sequence[int]) -> dict[str, list[float]]:
        """By component the strength at each of the layers."""
        return {name: [kernel.weight(layer) for layer in layers] for name, kernel in self.kernels.items()}

    def facts(self) -> dict[str, str]:
        """All but the strengths in words, each by the heading of its column."""
        raise NotImplementedError

    def brief(self) -> str:
        """All but the strengths in a few characters, for a line about a running trial."""
        raise NotImplementedError

    def values(self) -> dict[str, float | str]:
        """All but the strengths, by field."""
        values: dict[str, float | str] = self.model_dump(exclude={"version", "method", "kernels"})
        return values
