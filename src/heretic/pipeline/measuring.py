"""Measuring the candidates of a search: in this process, or in several."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..ablation.edit import ModelEdit
from ..ablation.parameters import AblationParameters
from ..engine.base import Progress
from ..engine.batch_size import out_of_memory
from ..errors import CandidateError, ModelError
from ..evaluation.evaluator import Baseline, Enough, Evaluation, Evaluator
from ..evaluation.learned import Learned

Compile = Callable[[AblationParameters], ModelEdit]
Outcome = Evaluation | CandidateError


@dataclass(frozen=True, slots=True)
class Job:
    """A candidate to be measured, with what is known when it is asked for: figures depend on nothing else."""

    number: int
    parameters: AblationParameters
    enough: Enough | None
    learned: Learned


class Measurer(Protocol):
    """Takes jobs and gives outcomes, in any order; `ahead` jobs may be open at once."""

    @property
    def ahead(self) -> int: ...

    def submit(self, job: Job) -> None: ...

    def outcomes(self, progress: Progress) -> dict[int, Outcome]:
        """Waits for at least one of the open jobs."""
        ...


class InProcess:
    """Measures up to `ahead` candidates in the same forwards."""

    def __init__(self, evaluator: Evaluator, baseline: Baseline, compile_edit: Compile, ahead: int = 1) -> None:
        self._evaluator = evaluator
        self._baseline = baseline
        self._compile = compile_edit
        self._open: list[Job] = []
        self.ahead = ahead

    def submit(self, job: Job) -> None:
        self._open.append(job)

    def outcomes(self, progress: Progress) -> dict[int, Outcome]:
        jobs, self._open = self._open, []
        return self.measure(jobs, progress)

    def measure(self, jobs: Sequence[Job], progress: Progress) -> dict[int, Outcome]:
        """Where memory does not suffice, by halves: of the candidates first, then of the rows a forward.

        Raises:
            ModelError: not even one row of one candidate fits.
        """
        try:
            return self._measure(jobs, progress)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
        if len(jobs) > 1:
            self.ahead = max(1, len(jobs) // 2)
            halves = jobs[: self.ahead], jobs[self.ahead :]
            return self.measure(halves[0], progress) | self.measure(halves[1], progress)
        if not self._evaluator.engine.halve():
            raise ModelError("A candidate needs more memory than there is, even row by row. Use quantization.")
        return self.measure(jobs, progress)

    def _measure(self, jobs: Sequence[Job], progress: Progress) -> dict[int, Outcome]:
        edits = [self._compile(job.parameters) for job in jobs]
        numbers = [job.number for job in jobs]
        # What the first was asked with serves all: it is the oldest, and what ruled a candidate out then still does.
        evaluations = self._evaluator.evaluate(
            edits, self._baseline, progress, jobs[0].enough, numbers, jobs[0].learned
        )
        return dict(zip(numbers, evaluations, strict=True))
