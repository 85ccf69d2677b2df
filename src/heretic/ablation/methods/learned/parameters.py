"""A trial's record of a learned edit: the digest of its tensors, and a summary of them."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from ...parameters import AblationParameters, WeightKernel


class LearnedParameters(AblationParameters):
    """One point of a learned path.

    `tensors` is the digest under which the study keeps its directions and strengths. `refusal_weight` is lambda, the
    weight of the refusals in the loss. `strengths` are means by component and layer, `cosines` those between the
    learned directions and the difference of means by layer (0 where nothing is edited), and `losses` the loss of each
    step, in nats. `dropped` is the reason why the point can't be used. With a `scale` other than 1 it is an earlier
    point whose strengths were multiplied by `scale`, and there are no losses.
    """

    sampled: ClassVar[bool] = False

    method: Literal["learned"] = "learned"
    kernels: dict[str, WeightKernel] = Field(default_factory=dict, max_length=0)
    tensors: str
    path: int
    point: int
    refusal_weight: float
    strengths: dict[str, tuple[float, ...]]
    cosines: tuple[float, ...]
    losses: tuple[float, ...]
    dropped: str | None = None
    scale: float = 1.0

    @property
    def digests(self) -> tuple[str, ...]:
        return (self.tensors,)

    @property
    def fault(self) -> str | None:
        return self.dropped

    def by_layer(self, layers: Sequence[int]) -> dict[str, list[float]]:
        return {component: [values[layer] for layer in layers] for component, values in self.strengths.items()}

    def facts(self) -> dict[str, str]:
        return {
            "Direction": "learned for each layer",
            "Path and point": f"{self.path + 1}, {self.point + 1}",
            "Weight of refusals (lambda)": f"{self.refusal_weight:.3g}",
            "Scale": f"{self.scale:g}",
            "Loss": f"{self.losses[-1]:.4f} after {len(self.losses)} steps" if self.losses else "",
        }

    def brief(self) -> str:
        means = []
        for component, values in self.strengths.items():
            edited = [value for value in values if value]
            means.append(f"{component.split('.')[0]} {sum(edited) / max(1, len(edited)):.2f}")
        # Points are counted from 1, as the progress of learning counts them.
        point = f"point {self.point + 1}" if self.path == 0 else f"path {self.path + 1} point {self.point + 1}"
        scaled = "" if self.scale == 1 else f" x {self.scale:g}"
        return f"learned, {point}{scaled}; {', '.join(means)}"

    def values(self) -> dict[str, float | str]:
        last = {"loss": self.losses[-1]} if self.losses else {}
        return {
            "path": self.path,
            "point": self.point,
            "refusal_weight": self.refusal_weight,
            "scale": self.scale,
            **last,
        }
