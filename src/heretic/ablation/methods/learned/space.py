"""The points of learned paths: no sampler draws them."""

from collections.abc import Iterable
from typing import Any

from ...parameters import AblationParameters
from ..base import SearchSpace, Suggests
from .parameters import LearnedParameters


class LearnedSpace(SearchSpace):
    """Points of a model that writes by `components` and whose last decoder layer has index `last_layer`."""

    def __init__(self, components: tuple[str, ...], last_layer: int) -> None:
        self.components = components
        self.last_layer = last_layer

    def suggest(self, trial: Suggests) -> LearnedParameters:
        """Raises:
        ValueError: always.
        """
        raise ValueError("points of a learned path are learned, not drawn")

    def encode(self, parameters: AblationParameters) -> dict[str, Any]:
        assert isinstance(parameters, LearnedParameters)
        return {
            "tensors": parameters.tensors,
            "path": parameters.path,
            "point": parameters.point,
            "refusal_weight": parameters.refusal_weight,
            "scale": parameters.scale,
        }

    def literature(self) -> list[LearnedParameters]:
        return []

    def adopt(self, parameters: AblationParameters, last_layer: int) -> LearnedParameters:
        raise ValueError("tensors that were learned of one model fit no other")

    def on_bounds(self, trials: Iterable[AblationParameters]) -> list[str]:
        return []

    def describe(self) -> dict[str, Any]:
        return {"components": list(self.components), "last_layer": self.last_layer}
