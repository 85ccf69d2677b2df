"""Measuring the models of a held-out evaluation: the baseline and the candidates of the front."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from ...engine.protocol import MEMORY_ERRORS, Progress, out_of_memory
from ...errors import ModelError
from .evaluate import HeldoutBaseline, HeldoutEvaluator, HeldoutOutcome, HeldoutRequest


@dataclass(frozen=True, slots=True)
class HeldoutResult:
    request: HeldoutRequest
    outcome: HeldoutOutcome


class HeldoutMeasurer(Protocol):
    """Measures the baseline and candidates on held-out prompts."""

    def measure(
        self, evaluator: HeldoutEvaluator, requests: Sequence[HeldoutRequest], progress: Progress
    ) -> Generator[HeldoutBaseline | HeldoutResult, None, None]:
        """The baseline first, then the candidates, each as soon as it is measured and in any order."""
        ...


class SharedForwards:
    """Measures in this process, up to `together` models in the same forwards."""

    def __init__(self, together: int = 1) -> None:
        self._together = together

    def measure(
        self, evaluator: HeldoutEvaluator, requests: Sequence[HeldoutRequest], progress: Progress
    ) -> Generator[HeldoutBaseline | HeldoutResult, None, None]:
        """Measures the models; when memory runs out, halves first the models, then the rows of a forward.

        Raises:
            ModelError: not even one row of one model fits.
        """
        first = max(0, self._together - 1)
        baseline, outcomes = self._fitting(evaluator, requests[:first], None, progress)
        yield baseline
        yield from map(HeldoutResult, requests, outcomes)
        yield from self.candidates(evaluator, requests[len(outcomes) :], baseline, progress)

    def candidates(
        self,
        evaluator: HeldoutEvaluator,
        requests: Sequence[HeldoutRequest],
        baseline: HeldoutBaseline,
        progress: Progress,
    ) -> Generator[HeldoutResult, None, None]:
        """The candidates alone, against a `baseline` that was measured before."""
        left = list(requests)
        while left:
            _, outcomes = self._fitting(evaluator, left[: self._together], baseline, progress)
            yield from map(HeldoutResult, left, outcomes)
            del left[: len(outcomes)]

    def _fitting(
        self,
        evaluator: HeldoutEvaluator,
        requests: Sequence[HeldoutRequest],
        baseline: HeldoutBaseline | None,
        progress: Progress,
    ) -> tuple[HeldoutBaseline, list[HeldoutOutcome]]:
        """The first candidates, as many as fit the memory."""
        while True:
            try:
                return evaluator.measure(requests, baseline, progress)
            except MEMORY_ERRORS as error:
                if not out_of_memory(error):
                    raise
            models = len(requests) + (baseline is None)
            self._use_less(evaluator, models)
            requests = requests[: models // 2 - (baseline is None)] if models > 1 else requests

    def _use_less(self, evaluator: HeldoutEvaluator, models: int) -> None:
        if models > 1:
            self._together = models // 2
            evaluator.engine.free_buffers()
        elif not evaluator.engine.halve_batch_size():
            raise ModelError("A held-out model needs more memory than there is, even row by row. Use quantization.")
