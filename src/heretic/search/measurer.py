"""Evaluates the candidates of a search, in this process or in several."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..ablation.edit import ModelEdit
from ..ablation.parameters import AblationParameters
from ..engine.protocol import Progress, out_of_memory
from ..errors import CandidateError, ModelError
from ..evaluation.evaluator import Baseline, Evaluation, Evaluator, Known, Limit
from ..evaluation.pruning.preview import Preview
from ..evaluation.pruning.statistics import PruningStatistics

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


class InProcessMeasurer:
    """Measures up to `ahead` candidates in the same forwards."""

    def __init__(self, evaluator: Evaluator, baseline: Baseline, compile_edit: Compile, ahead: int = 1) -> None:
        self._evaluator = evaluator
        self._baseline = baseline
        self._compile = compile_edit
        self._open: list[EvaluationRequest] = []
        self.ahead = ahead

    def submit(self, job: EvaluationRequest) -> None:
        self._open.append(job)

    def outcomes(self, progress: Progress) -> list[EvaluationResult]:
        """Outcomes of as many requests as fit a forward pass; previews and trials are never open together."""
        jobs, self._open = self._open[: self.ahead], self._open[self.ahead :]
        return self.measure(jobs, progress)

    def measure(self, jobs: Sequence[EvaluationRequest], progress: Progress) -> list[EvaluationResult]:
        """Outcomes of requests of one kind. When memory runs out, halves the candidates, then the rows of a forward
        pass.

        Raises:
            ModelError: not even one row of one candidate fits.
        """
        try:
            return list(zip(jobs, self._measure(jobs, progress), strict=True))
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
        if len(jobs) > 1:
            self.ahead = max(1, len(jobs) // 2)
            return self.measure(jobs[: self.ahead], progress) + self.measure(jobs[self.ahead :], progress)
        if not self._evaluator.engine.halve_batch_size():
            raise ModelError("A candidate needs more memory than there is, even row by row. Set quantization.")
        return self.measure(jobs, progress)

    def _measure(self, jobs: Sequence[EvaluationRequest], progress: Progress) -> Sequence[Outcome]:
        edits = [self._compile(job.parameters) for job in jobs]
        # The limit of the first request holds for all: it is the oldest, and what it dominates stays dominated.
        first = jobs[0]
        if first.preview:
            return self._evaluator.preview(edits, self._baseline, progress, first.statistics)
        numbers, known = [job.number for job in jobs], [job.known for job in jobs]
        return self._evaluator.evaluate(edits, self._baseline, progress, first.limit, numbers, first.statistics, known)
