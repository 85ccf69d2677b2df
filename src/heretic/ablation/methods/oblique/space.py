"""What the sampler may suggest: strengths, the shrink of the second moment, and where the difference is taken."""

from collections.abc import Iterable, Iterator
from typing import Any

from ...parameters import AblationParameters, WeightKernel
from ..base import SearchSpace, Suggests
from ..kernel_ranges import Bounded, KernelRanges, clamp, on_bounds
from .parameters import ObliqueParameters

# Strengths below 0.4 leave most refusals, and above 1 the difference is turned round.
WEIGHT_RANGE = (0.0, 1.2)
# As fractions of the last layer's index.
POSITION_RANGE = (0.4, 1.0)
LEAST_DISTANCE, MOST_DISTANCE = 1.0, 0.8
SHRINK_RANGE = (0.03, 3.0)
SHARE_RANGE = (0.0, 1.0)

FIRST_STRENGTHS, FIRST_SHRINK = (0.8, 0.6, 0.4), 0.3


class ObliqueSpace(SearchSpace):
    """Ranges for a model whose last decoder layer has index `last_layer`, one kernel a component."""

    def __init__(self, components: tuple[str, ...], last_layer: int) -> None:
        self.components = components
        self.last_layer = last_layer
        distances = (LEAST_DISTANCE, MOST_DISTANCE)
        self._ranges = KernelRanges(components, last_layer, WEIGHT_RANGE, POSITION_RANGE, distances)

    def suggest(self, trial: Suggests) -> ObliqueParameters:
        shrink = trial.suggest_float("shrink", *SHRINK_RANGE, log=True)
        share = trial.suggest_float("answer_share", *SHARE_RANGE)
        return ObliqueParameters(shrink=shrink, answer_share=share, kernels=self._ranges.suggest(trial))

    def encode(self, parameters: AblationParameters) -> dict[str, Any]:
        assert isinstance(parameters, ObliqueParameters)
        encoded: dict[str, Any] = {
            "shrink": clamp(parameters.shrink, SHRINK_RANGE),
            "answer_share": clamp(parameters.answer_share, SHARE_RANGE),
        }
        return encoded | self._ranges.encode(parameters.kernels)

    def adopt(self, parameters: AblationParameters, last_layer: int) -> ObliqueParameters:
        if not isinstance(parameters, ObliqueParameters):
            raise ValueError(f"expected candidates of the method oblique, found {parameters.method}")
        ratio = self.last_layer / last_layer if last_layer else 1.0
        return parameters.model_copy(update={"kernels": self._ranges.adopt(parameters.kernels, ratio)})

    def literature(self) -> list[ObliqueParameters]:
        """One strength for the upper part of the model, at three values: nobody has published any, and these were
        measured before the search was written (docs/decisions)."""
        return [
            ObliqueParameters(
                shrink=FIRST_SHRINK,
                answer_share=0.5,
                kernels=dict.fromkeys(
                    self.components,
                    WeightKernel(
                        max_weight=strength,
                        max_weight_position=float(self.last_layer),
                        min_weight=strength,
                        min_weight_distance=clamp(0.55 * self.last_layer, self._ranges.distances),
                    ),
                ),
            )
            for strength in FIRST_STRENGTHS
        ]

    def on_bounds(self, trials: Iterable[AblationParameters]) -> list[str]:
        return on_bounds(found for trial in trials for found in self._bounded(trial))

    def _bounded(self, trial: AblationParameters) -> Iterator[Bounded]:
        assert isinstance(trial, ObliqueParameters)
        yield "shrink", trial.shrink, SHRINK_RANGE, SHRINK_RANGE
        yield from self._ranges.bounded(trial.kernels)

    def describe(self) -> dict[str, Any]:
        return {"shrink": list(SHRINK_RANGE), "answer_share": list(SHARE_RANGE)} | self._ranges.describe()
