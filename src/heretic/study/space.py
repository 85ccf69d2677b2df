"""What the sampler may suggest (SPEC 5): fixed ranges, so that multivariate samplers see one space."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..ablation.parameters import AblationParameters, WeightKernel
from ..errors import StudyError

SCOPES = ("global", "per layer")

# As fractions of the last layer's index where a range counts layers.
INDEX_RANGE = (0.4, 0.9)
POSITION_RANGE = (0.6, 1.0)
WEIGHT_RANGE = (0.8, 1.5)
LEAST_DISTANCE, MOST_DISTANCE = 1.0, 0.6

TEXTBOOK_LAYERS = (0.5, 0.6, 0.7, 0.8)
ON_BOUND = 0.01
"""Within this share of its range, a value counts as lying on the range's end."""


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
        distance = trial.suggest_float(f"{component}.min_weight_distance", *self._distances())
        return WeightKernel(
            max_weight=max_weight,
            max_weight_position=position,
            min_weight=fraction * max_weight,
            min_weight_distance=distance,
        )

    def encode(self, parameters: AblationParameters) -> dict[str, Any]:
        """What `suggest` would have drawn for `parameters`, moved into the ranges where they lie outside."""
        encoded: dict[str, Any] = {
            "direction_scope": parameters.direction_scope,
            "direction_index": _clamp(parameters.direction_index, self._layers(INDEX_RANGE)),
        }
        for component in self.components:
            kernel = parameters.kernels[component]
            # Before the weight is moved into its range: the shape of the kernel is kept.
            fraction = kernel.min_weight / kernel.max_weight if kernel.max_weight else 0.0
            encoded[f"{component}.max_weight"] = _clamp(kernel.max_weight, WEIGHT_RANGE)
            encoded[f"{component}.max_weight_position"] = _clamp(
                kernel.max_weight_position, self._layers(POSITION_RANGE)
            )
            encoded[f"{component}.min_weight"] = _clamp(fraction, (0.0, 1.0))
            encoded[f"{component}.min_weight_distance"] = _clamp(kernel.min_weight_distance, self._distances())
        return encoded

    def adopt(self, parameters: AblationParameters, last_layer: int) -> AblationParameters:
        """Parameters of a model whose last layer is `last_layer`, at the same relative depths of this one.

        Raises:
            StudyError: a component of this space has no kernel there.
        """
        missing = [component for component in self.components if component not in parameters.kernels]
        if missing:
            raise StudyError(
                f"Expected seeds with kernels for {', '.join(self.components)}, found {', '.join(parameters.kernels)}. "
                "Take the study of a model with the same components, or leave seeds out."
            )
        ratio = self.last_layer / last_layer if last_layer else 1.0
        kernels = {
            component: kernel.model_copy(
                update={
                    "max_weight_position": ratio * kernel.max_weight_position,
                    "min_weight_distance": ratio * kernel.min_weight_distance,
                }
            )
            for component, kernel in parameters.kernels.items()
        }
        return parameters.model_copy(update={"direction_index": ratio * parameters.direction_index, "kernels": kernels})

    def textbook(self) -> list[AblationParameters]:
        """The ablations of the literature: every site at full strength, along each layer's own direction, or along that
        of one of a few layers (Arditi et al. 2024, "Refusal in language models is mediated by a single direction")."""
        widest = WeightKernel(
            max_weight=1.0,
            max_weight_position=POSITION_RANGE[0] * self.last_layer,
            min_weight=1.0,
            min_weight_distance=self._distances()[1],
        )
        kernels = dict.fromkeys(self.components, widest)
        indices = sorted({float(round(share * self.last_layer)) for share in TEXTBOOK_LAYERS})
        inside = [_clamp(index, self._layers(INDEX_RANGE)) for index in indices]
        own = AblationParameters(direction_scope="per layer", direction_index=inside[0], kernels=kernels)
        return [own] + [
            AblationParameters(direction_scope="global", direction_index=index, kernels=kernels) for index in inside
        ]

    def on_bounds(self, trials: Iterable[AblationParameters]) -> list[str]:
        """Where trials lie at an end of the space beyond which there may be better ones, as `name at value`.

        Ends that nothing lies beyond (the last layer, a fraction of 0 or 1) don't count, nor do textbook settings,
        which lie at ends by their nature.
        """
        textbook = self.textbook()
        found = {
            f"{name} at {end:g}"
            for trial in trials
            if trial not in textbook
            for name, value, low, high, ends in self._bounded(trial)
            for end in ends
            if abs(value - end) <= ON_BOUND * (high - low)
        }
        return sorted(found)

    def _bounded(self, trial: AblationParameters) -> Iterable[tuple[str, float, float, float, Sequence[float]]]:
        """(name, value, low, high, ends that matter) of each parameter that a wider range could change."""
        if trial.direction_scope == "global":
            low, high = self._layers(INDEX_RANGE)
            yield "direction_index", trial.direction_index, low, high, (low, high)
        for component, kernel in trial.kernels.items():
            yield f"{component}.max_weight", kernel.max_weight, *WEIGHT_RANGE, WEIGHT_RANGE
            low, high = self._layers(POSITION_RANGE)
            yield f"{component}.max_weight_position", kernel.max_weight_position, low, high, (low,)
            low, high = self._distances()
            yield f"{component}.min_weight_distance", kernel.min_weight_distance, low, high, (low, high)

    def _distances(self) -> tuple[float, float]:
        return LEAST_DISTANCE, max(LEAST_DISTANCE + 1e-6, MOST_DISTANCE * self.last_layer)

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


def _clamp(value: float, ends: Sequence[float]) -> float:
    return min(max(value, ends[0]), ends[1])
