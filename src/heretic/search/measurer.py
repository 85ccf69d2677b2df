"""Evaluates the candidates of a search, in this process or in several."""

import logging
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..ablation.edit import ModelEdit
from ..ablation.parameters import AblationParameters
from ..engine.protocol import MEMORY_ERRORS, Progress, out_of_memory
from ..errors import CandidateError, NoMemoryError
from ..evaluation.evaluator import Baseline, Evaluation, Evaluator, Known, Limit
from ..evaluation.pruning.preview import Preview
from ..evaluation.pruning.statistics import PruningStatistics
from ..events import WorkerState

logger = logging.getLogger(__name__)

Compile = Callable[[AblationParameters], ModelEdit]
Outcome = Evaluation | Preview | CandidateError


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """A candidate to evaluate, with the limits and statistics of the moment: its metrics depend on nothing else.

    For a `preview`, `number` is not that of a trial.
    """

    number: int
    parameters: AblationParameters
    limit: Limit | None = None
    statistics: PruningStatistics | None = None
    known: Known = field(default_factory=dict)
    preview: bool = False


EvaluationResult = tuple[EvaluationRequest, Outcome]


class Measurer(Protocol):
    """Takes requests and returns outcomes, in any order; `ahead` trials may be open at once."""

    @property
    def ahead(self) -> int: ...

    def submit(self, job: EvaluationRequest) -> None: ...

    def outcomes(self, progress: Progress) -> list[EvaluationResult]:
        """Waits for at least one of the open requests."""
        ...


class ClusterMeasurer(Measurer, Protocol):
    """A measurer whose actors have names."""

    def workers(self) -> Sequence[WorkerState]:
        """The current status of each actor."""
        ...

    def measured_by(self, number: int) -> str | None:
        """The actor that measured a trial."""
        ...


class InProcessMeasurer:
    """Measures `candidates` in the same forwards; `open_candidates` may be requested (by default as many)."""

    def __init__(
        self,
        evaluator: Evaluator,
        baseline: Baseline,
        compile_edit: Compile,
        candidates: int = 1,
        open_candidates: int = 0,
        warn: Callable[[str], None] = warnings.warn,
    ) -> None:
        self._evaluator = evaluator
        self._warn, self._warned = warn, False
        self._baseline = baseline
        self._compile = compile_edit
        self._open: list[EvaluationRequest] = []
        self._candidates = candidates
        self._open_candidates = open_candidates

    @property
    def ahead(self) -> int:
        return self._open_candidates or self._candidates

    def submit(self, job: EvaluationRequest) -> None:
        self._open.append(job)

    def outcomes(self, progress: Progress) -> list[EvaluationResult]:
        """Outcomes of as many requests as fit a forward pass; previews and trials are never open together."""
        jobs, self._open = self._open[: self._candidates], self._open[self._candidates :]
        return self.measure(jobs, progress)

    def measure(self, jobs: Sequence[EvaluationRequest], progress: Progress) -> list[EvaluationResult]:
        """Outcomes of requests of one kind, in the same forwards. When memory runs out, halves the candidates, then the
        rows of a forward pass. Each outcome is logged with the seconds that its forwards took.

        Raises:
            NoMemoryError: not even one row of one candidate fits.
        """
        results: list[EvaluationResult] = []
        left = list(jobs)
        while left:
            part, started = left[: self._candidates], time.monotonic()
            try:
                done = list(zip(part, self._measure(part, jobs[0], progress), strict=True))
            except MEMORY_ERRORS as error:
                if not out_of_memory(error):
                    raise
                self._use_less(len(part))
                continue
            _log(done, time.monotonic() - started)
            results += done
            del left[: len(part)]
        return results

    def _use_less(self, candidates: int) -> None:
        if not self._warned:
            self._warn(
                f"There was no memory for {candidates} candidates in the same forward passes: they are halved as far "
                "as necessary, with the same results. Set candidates_per_forward or batch_size to begin with fewer."
            )
        self._warned = True
        if candidates > 1:
            self._candidates = candidates // 2
            # Those of recorded steps have room for all candidates.
            self._evaluator.engine.free_buffers()
        elif not self._evaluator.engine.halve_batch_size():
            raise NoMemoryError("A candidate needs more memory than there is, even row by row. Set quantization.")

    def _measure(
        self, jobs: Sequence[EvaluationRequest], first: EvaluationRequest, progress: Progress
    ) -> Sequence[Outcome]:
        edits = [self._compile(job.parameters) for job in jobs]
        # The first request's limits are valid for all: they are the oldest, and a candidate dominated then stays so.
        if first.preview:
            return self._evaluator.preview(edits, self._baseline, progress, first.statistics)
        numbers, known = [job.number for job in jobs], [job.known for job in jobs]
        return self._evaluator.evaluate(edits, self._baseline, progress, first.limit, numbers, first.statistics, known)


def _log(results: Sequence[EvaluationResult], seconds: float) -> None:
    for job, outcome in results:
        kind = _kind(job, outcome)
        logger.debug("candidate %d: %s, %.3f s", job.number, kind, seconds, extra={"kind": kind, "seconds": seconds})


def _kind(job: EvaluationRequest, outcome: Outcome) -> str:
    """For the log: preview, failed, pruned or complete."""
    if job.preview:
        return "preview"
    if not isinstance(outcome, Evaluation):
        return "failed"
    return "pruned" if outcome.pruned else "complete"
