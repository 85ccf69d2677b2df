"""The search: ask, measure, tell, until trials or time are used up."""

import time
from collections.abc import Callable, Sequence
from functools import partial

from ..ablation.edit import ModelEdit
from ..config import Settings
from ..errors import CandidateError, ModelError
from ..evaluation.evaluator import Baseline, Enough, Evaluation, Evaluator
from ..evaluation.scores import scores
from ..study.pareto import knee, losing_refusals, pareto_front
from ..study.records import BaselineRecord, TrialRecord
from ..study.study import Candidate, Study
from ..ui.events import Reporter, SearchState, SearchView

FAILURES_IN_A_ROW = 10


class Clock:
    """Time since the search began, how long a trial takes, and whether another one fits the budget."""

    def __init__(self, budget: float | None) -> None:
        self._budget = budget
        self._started = time.monotonic()
        self._trials = 0

    def lap(self, trials: int) -> None:
        self._trials += trials

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._started

    def remaining(self, trials: int) -> float | None:
        """Seconds that `trials` more will take, or that the budget leaves; None before the first trial."""
        if self._trials == 0:
            return None
        needed = trials * self.elapsed / self._trials
        return needed if self._budget is None else max(0.0, min(needed, self._budget - self.elapsed))

    @property
    def over(self) -> bool:
        """Whether another trial would end more than half of itself after the budget."""
        if self._budget is None:
            return False
        trial = self.elapsed / self._trials if self._trials else 0.0
        return self.elapsed + trial / 2 >= self._budget


class Search:
    """Runs trials of one study on one evaluator."""

    def __init__(
        self,
        study: Study,
        evaluator: Evaluator,
        baseline: Baseline,
        compile_candidate: Callable[[Candidate], ModelEdit],
        settings: Settings,
    ) -> None:
        self._study = study
        self._evaluator = evaluator
        self._baseline = baseline
        self._compile = compile_candidate
        self._settings = settings
        self._failures = 0

    def run(self, n_trials: int, reporter: Reporter) -> bool:
        """Trials until `n_trials` are finished or the time budget is over; False if Ctrl+C ended it.

        Raises:
            ModelError: so many trials failed in a row that the rest would too.
        """
        clock = Clock(self._settings.time_budget)
        with reporter.search(self._state(n_trials, clock), self._evaluator.rows_a_candidate) as view:
            try:
                while self._study.n_finished() < n_trials and not clock.over:
                    self._step(self._study.ask(1), n_trials, clock, view)
            except KeyboardInterrupt:
                self._study.take_back_running()
                return False
        if self._study.n_finished() < n_trials:
            reporter.say(f"The time budget is over: {self._study.n_finished()} of {n_trials} trials are done.")
        return True

    def _step(self, candidates: Sequence[Candidate], n_trials: int, clock: Clock, view: SearchView) -> None:
        edits = [self._compile(candidate) for candidate in candidates]
        numbers = [candidate.number for candidate in candidates]
        evaluations = self._evaluator.evaluate(edits, self._baseline, view.rows, self._enough(), numbers)
        clock.lap(len(candidates))
        for candidate, evaluation in zip(candidates, evaluations, strict=True):
            if isinstance(evaluation, CandidateError):
                self._fail(candidate, str(evaluation))
                view.failed(candidate.number, str(evaluation), self._state(n_trials, clock))
            else:
                self._failures = 0
                trial = self._tell(candidate, evaluation)
                view.complete(trial, self._state(n_trials, clock))

    def _tell(self, candidate: Candidate, evaluation: Evaluation) -> TrialRecord:
        settings = self._settings
        objectives = scores(
            evaluation, self._baseline.refusals, settings.kl_divergence_scale, settings.kl_divergence_target
        )
        return self._study.tell(candidate, evaluation.refusals, evaluation.kl_divergence, objectives, evaluation.bound)

    def _enough(self) -> Enough | None:
        """From a candidate's KL to the refusals that rule it out, by the trials so far."""
        return partial(losing_refusals, self._study.trials) if self._settings.stop_dominated else None

    def _fail(self, candidate: Candidate, reason: str) -> None:
        self._study.fail(candidate, reason)
        self._failures += 1
        if self._failures >= FAILURES_IN_A_ROW:
            raise ModelError(
                f"Expected candidates that can be measured, but {self._failures} failed one after the other "
                f"({reason}). Load the model in another dtype (dtypes = bfloat16 or float32)."
            )

    def _state(self, n_trials: int, clock: Clock) -> SearchState:
        record = BaselineRecord(refusals=self._baseline.refusals, prompts=self._baseline.prompts)
        front = pareto_front(self._study.trials)
        finished = self._study.n_finished()
        return SearchState(
            finished=finished,
            wanted=n_trials,
            front=front,
            best=knee(front, record) if front else None,
            baseline=record,
            elapsed=clock.elapsed,
            remaining=clock.remaining(n_trials - finished),
        )
