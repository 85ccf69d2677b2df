"""What the sampler suggests and a trial stores: numbers only."""

from typing import Literal

from pydantic import Field

from ...parameters import AblationParameters

DirectionScope = Literal["global", "per layer"]


class KernelParameters(AblationParameters):
    """One candidate. `direction_index` counts layers and is used when the scope is global."""

    # Left out of records: those without a method are from before there was another one.
    method: Literal["kernel"] = Field(default="kernel", exclude=True)
    direction_scope: DirectionScope
    direction_index: float

    def facts(self) -> dict[str, str]:
        if self.direction_scope == "per layer":
            return {"Direction": "each layer's own"}
        return {"Direction": f"one for all layers, of layer {self.direction_index:.2f}"}

    def brief(self) -> str:
        return "per layer" if self.direction_scope == "per layer" else f"layer {self.direction_index:.1f}"
