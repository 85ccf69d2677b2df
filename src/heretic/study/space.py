"""What the sampler may suggest (SPEC 5): fixed ranges, so that multivariate samplers see one space."""

from dataclasses import dataclass
from typing import Any, Protocol

from ..ablation.parameters import AblationParameters, WeightKernel

SCOPES = ("global", "per layer")

# As fractions of the last layer's index where a range counts layers.
INDEX_RANGE = (0.4, 0.9)
POSITION_RANGE = (0.6, 1.0)
WEIGHT_RANGE = (0.8, 1.5)
LEAST_DISTANCE, MOST_DISTANCE = 1.0, 0.6


class Suggests(Protocol):
    """The part of an Optuna trial that the space uses."""

    def suggest_float(self, name: str, low: float, high: float) -> float: ...

    def suggest_categorical(self, name: str, choices: Any) -> Any: ...


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """Ranges for a model whose last decoder layer has index `last_layer`, one kernel a component."""

    components: tuple[str, ...]
    last_layer: int

    def suggest(self, trial: Suggests) -> AblationParameters:
        scope = trial.suggest_categorical("direction_scope", SCOPES)
        # Sampled also where the scope is "per layer", so that the space is the same for every trial.
        index = trial.suggest_float("direction_index", *self._layers(INDEX_RANGE))
        kernels = {component: self._kernel(trial, component) for component in self.components}
        return AblationParameters(direction_scope=scope, direction_index=index, kernels=kernels)

    def _kernel(self, trial: Suggests, component: str) -> WeightKernel:
        max_weight = trial.suggest_float(f"{component}.max_weight", *WEIGHT_RANGE)
        position = trial.suggest_float(f"{component}.max_weight_position", *self._layers(POSITION_RANGE))
        fraction = trial.suggest_float(f"{component}.min_weight", 0.0, 1.0)
        furthest = max(LEAST_DISTANCE + 1e-6, MOST_DISTANCE * self.last_layer)
        distance = trial.suggest_float(f"{component}.min_weight_distance", LEAST_DISTANCE, furthest)
        return WeightKernel(
            max_weight=max_weight,
            max_weight_position=position,
            min_weight=fraction * max_weight,
            min_weight_distance=distance,
        )

    def _layers(self, fractions: tuple[float, float]) -> tuple[float, float]:
        return fractions[0] * self.last_layer, fractions[1] * self.last_layer

    def describe(self) -> dict[str, Any]:
        """The ranges as JSON: two studies agree if these do."""
        return {
            "components": list(self.components),
            "last_layer": self.last_layer,
            "direction_index": list(INDEX_RANGE),
            "max_weight": list(WEIGHT_RANGE),
            "max_weight_position": list(POSITION_RANGE),
            "min_weight_distance": [LEAST_DISTANCE, MOST_DISTANCE],
        }
