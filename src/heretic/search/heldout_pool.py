"""Held-out candidates measured by the same kind of processes as those of the search."""

from collections.abc import Generator, Sequence

from ..engine.protocol import Progress
from ..evaluation.heldout.evaluate import HeldoutBaseline, HeldoutEvaluator, HeldoutOutcome, HeldoutRequest
from ..evaluation.heldout.measurer import HeldoutMeasurer, HeldoutResult, SharedForwards
from .parallelism import Parallelism
from .process_pool import ProcessPool


def heldout_measurer(parallelism: Parallelism) -> HeldoutMeasurer:
    """Processes on a CPU where the search used them, else shared forwards."""
    return ForkedHeldout(parallelism.processes) if parallelism.processes > 1 else SharedForwards(parallelism.candidates)


class ForkedHeldout:
    """Measures the baseline in this process with all threads, then each candidate in one of several processes."""

    def __init__(self, processes: int) -> None:
        self._processes = processes

    def measure(
        self, evaluator: HeldoutEvaluator, requests: Sequence[HeldoutRequest], progress: Progress
    ) -> Generator[HeldoutBaseline | HeldoutResult, None, None]:
        if min(self._processes, len(requests)) < 2:
            yield from SharedForwards().measure(evaluator, requests, progress)
            return
        [baseline] = SharedForwards().measure(evaluator, [], progress)
        assert isinstance(baseline, HeldoutBaseline)
        yield baseline
        # Forked after the baseline is measured, the processes share its reference.
        pool = ProcessPool(min(self._processes, len(requests)), _OneCandidate(evaluator, baseline, requests))
        try:
            for place in range(len(requests)):
                pool.submit(place)
            left = len(requests)
            while left:
                for place, outcome in pool.outcomes(progress):
                    yield HeldoutResult(requests[place], outcome)
                    left -= 1
        finally:
            pool.close()


class _OneCandidate:
    """Measures a candidate by its index among the requests: a forked process inherits the edits, so none is sent."""

    def __init__(
        self, evaluator: HeldoutEvaluator, baseline: HeldoutBaseline, requests: Sequence[HeldoutRequest]
    ) -> None:
        self._evaluator = evaluator
        self._baseline = baseline
        self._requests = requests

    def measure(self, jobs: Sequence[int], progress: Progress) -> list[tuple[int, HeldoutOutcome]]:
        requests = [self._requests[place] for place in jobs]
        results = SharedForwards().candidates(self._evaluator, requests, self._baseline, progress)
        return [(place, result.outcome) for place, result in zip(jobs, results, strict=True)]
