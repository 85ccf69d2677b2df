"""What the sampler may suggest: fixed ranges, so that multivariate samplers see one space."""

from collections.abc import Iterable, Iterator
from typing import Any

from ...parameters import AblationParameters, WeightKernel
from ..base import SearchSpace, Suggests
from ..kernel_ranges import Bounded, Ends, KernelRanges, clamp, on_bounds
from .parameters import KernelParameters

SCOPES = ("global", "per layer")

# As fractions of the last layer's index where a range counts layers.
INDEX_RANGE = (0.4, 0.9)
POSITION_RANGE = (0.6, 1.0)
WEIGHT_RANGE = (0.8, 1.5)
LEAST_DISTANCE, MOST_DISTANCE = 1.0, 0.6

LITERATURE_LAYERS = (0.5, 0.6, 0.7, 0.8)


class KernelSpace(SearchSpace):
    """Ranges for a model whose last decoder layer has index `last_layer`, one kernel a component."""

    def __init__(self, components: tuple[str, ...], last_layer: int) -> None:
        self.components = components
        self.last_layer = last_layer
        self._ranges = KernelRanges(
            components, last_layer, WEIGHT_RANGE, POSITION_RANGE, (LEAST_DISTANCE, MOST_DISTANCE)
        )

    def suggest(self, trial: Suggests) -> KernelParameters:
        scope = trial.suggest_categorical("direction_scope", SCOPES)
        # Sampled also where the scope is "per layer", so that the space is the same for every trial.
        index = trial.suggest_float("direction_index", *self._indices)
        return KernelParameters(direction_scope=scope, direction_index=index, kernels=self._ranges.suggest(trial))

    def encode(self, parameters: AblationParameters) -> dict[str, Any]:
        assert isinstance(parameters, KernelParameters)
        encoded: dict[str, Any] = {
            "direction_scope": parameters.direction_scope,
            "direction_index": clamp(parameters.direction_index, self._indices),
        }
        return encoded | self._ranges.encode(parameters.kernels)

    def adopt(self, parameters: AblationParameters, last_layer: int) -> KernelParameters:
        if not isinstance(parameters, KernelParameters):
            raise ValueError(f"expected candidates of the method kernel, found {parameters.method}")
        ratio = self.last_layer / last_layer if last_layer else 1.0
        kernels = self._ranges.adopt(parameters.kernels, ratio)
        return parameters.model_copy(update={"direction_index": ratio * parameters.direction_index, "kernels": kernels})

    def literature(self) -> list[KernelParameters]:
        """Every site at full strength, along each layer's own direction, or along that of one of a few layers (Arditi
        et al. 2024, "Refusal in language models is mediated by a single direction")."""
        widest = WeightKernel(
            max_weight=1.0,
            max_weight_position=POSITION_RANGE[0] * self.last_layer,
            min_weight=1.0,
            min_weight_distance=self._ranges.distances[1],
        )
        kernels = dict.fromkeys(self.components, widest)
        indices = sorted({float(round(share * self.last_layer)) for share in LITERATURE_LAYERS})
        inside = [clamp(index, self._indices) for index in indices]
        own = KernelParameters(direction_scope="per layer", direction_index=inside[0], kernels=kernels)
        return [own] + [
            KernelParameters(direction_scope="global", direction_index=index, kernels=kernels) for index in inside
        ]

    def on_bounds(self, trials: Iterable[AblationParameters]) -> list[str]:
        # Settings of the literature lie at ends by their nature.
        literature = self.literature()
        return on_bounds(found for trial in trials if trial not in literature for found in self._bounded(trial))

    def _bounded(self, trial: AblationParameters) -> Iterator[Bounded]:
        assert isinstance(trial, KernelParameters)
        if trial.direction_scope == "global":
            yield "direction_index", trial.direction_index, self._indices, self._indices
        yield from self._ranges.bounded(trial.kernels)

    @property
    def _indices(self) -> Ends:
        return INDEX_RANGE[0] * self.last_layer, INDEX_RANGE[1] * self.last_layer

    def describe(self) -> dict[str, Any]:
        return {"direction_index": list(INDEX_RANGE)} | self._ranges.describe()
