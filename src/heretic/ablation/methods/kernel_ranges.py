"""Ranges of the strength kernels that a sampler may suggest, for every method whose strengths are kernels."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..parameters import WeightKernel
from .base import Suggests

Ends = tuple[float, float]

ON_BOUND = 0.01
"""Within this share of its range, a value counts as lying on the range's end."""

Bounded = tuple[str, float, Ends, Sequence[float]]
"""A parameter that a wider range could change: name, value, range, and the ends that something may lie beyond."""


@dataclass(frozen=True, slots=True)
class KernelRanges:
    """One kernel a component, for a model whose last decoder layer has index `last_layer`.

    `position` counts in shares of the last layer's index. `distance` goes from a number of layers to such a share.
    """

    components: tuple[str, ...]
    last_layer: int
    weight: Ends
    position: Ends
    distance: Ends

    def suggest(self, trial: Suggests) -> dict[str, WeightKernel]:
        return {component: self._kernel(trial, component) for component in self.components}

    def _kernel(self, trial: Suggests, component: str) -> WeightKernel:
        max_weight = trial.suggest_float(f"{component}.max_weight", *self.weight)
        position = trial.suggest_float(f"{component}.max_weight_position", *self.positions)
        fraction = trial.suggest_float(f"{component}.min_weight", 0.0, 1.0)
        distance = trial.suggest_float(f"{component}.min_weight_distance", *self.distances)
        return WeightKernel(
            max_weight=max_weight,
            max_weight_position=position,
            min_weight=fraction * max_weight,
            min_weight_distance=distance,
        )

    def encode(self, kernels: Mapping[str, WeightKernel]) -> dict[str, Any]:
        """What `suggest` would have drawn for these kernels, moved into the ranges where they lie outside."""
        encoded: dict[str, Any] = {}
        for component in self.components:
            kernel = kernels[component]
            # Before the weight is moved into its range: the shape of the kernel is kept.
            fraction = kernel.min_weight / kernel.max_weight if kernel.max_weight else 0.0
            encoded[f"{component}.max_weight"] = clamp(kernel.max_weight, self.weight)
            encoded[f"{component}.max_weight_position"] = clamp(kernel.max_weight_position, self.positions)
            encoded[f"{component}.min_weight"] = clamp(fraction, (0.0, 1.0))
            encoded[f"{component}.min_weight_distance"] = clamp(kernel.min_weight_distance, self.distances)
        return encoded

    def adopt(self, kernels: Mapping[str, WeightKernel], ratio: float) -> dict[str, WeightKernel]:
        """The kernels of a model with `1 / ratio` times the layers, at the same relative depths of this one.

        Raises:
            ValueError: a component of this space has no kernel there.
        """
        missing = [component for component in self.components if component not in kernels]
        if missing:
            raise ValueError(f"expected kernels for {', '.join(self.components)}, found {', '.join(kernels)}")
        return {
            component: kernel.model_copy(
                update={
                    "max_weight_position": ratio * kernel.max_weight_position,
                    "min_weight_distance": ratio * kernel.min_weight_distance,
                }
            )
            for component, kernel in kernels.items()
        }

    def bounded(self, kernels: Mapping[str, WeightKernel]) -> Iterator[Bounded]:
        """Ends that nothing lies beyond (strength 0, the last layer, a fraction of 0 or 1) do not count."""
        for component, kernel in kernels.items():
            ends = [end for end in self.weight if end]
            yield f"{component}.max_weight", kernel.max_weight, self.weight, ends
            low, high = self.positions
            yield f"{component}.max_weight_position", kernel.max_weight_position, (low, high), (low,)
            yield f"{component}.min_weight_distance", kernel.min_weight_distance, self.distances, self.distances

    @property
    def positions(self) -> Ends:
        return self.position[0] * self.last_layer, self.position[1] * self.last_layer

    @property
    def distances(self) -> Ends:
        least, most = self.distance
        return least, max(least + 1e-6, most * self.last_layer)

    def describe(self) -> dict[str, Any]:
        """The ranges as JSON."""
        return {
            "components": list(self.components),
            "last_layer": self.last_layer,
            "max_weight": list(self.weight),
            "max_weight_position": list(self.position),
            "min_weight_distance": list(self.distance),
        }


def on_bounds(found: Iterable[Bounded]) -> list[str]:
    """Which parameters lie on an end of their range, as `name at value`."""
    return sorted(
        {
            f"{name} at {end:g}"
            for name, value, (low, high), ends in found
            for end in ends
            if abs(value - end) <= ON_BOUND * (high - low)
        }
    )


def clamp(value: float, ends: Ends) -> float:
    """The value, or the end of the range that it lies beyond."""
    return min(max(value, ends[0]), ends[1])
