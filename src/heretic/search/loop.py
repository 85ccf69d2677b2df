"""The search loop: suggests candidates, has them evaluated and records them, until trials or time are used up."""

from collections import deque
from collections.abc import Sequence
from functools import partial

from ..ablation.parameters import AblationParameters
from ..errors import CandidateError, ModelError
from ..evaluation.evaluator import Evaluation, Limit
from ..evaluation.pruning.statistics import PruningStatistics
from ..events import SearchState, SearchView, no_workers
from ..report.text import duration
from ..session.context import RunningStudy
from ..study.pareto import knee, pruning_limit
from ..study.study import Candidate
from .learned_points import LearnedPoints
from .measurer import EvaluationRequest, Measurer, Outcome
from .startup_order import StartupQueue
from .time_budget import Clock, HeldoutCost

FAILURES_IN_A_ROW = 10
TELLING_STEPS = 5
"""Steps of a point from which the time of the others is estimated: the first is slower than the rest."""


class Search:
    """Runs trials of one study. Results are reported to the study in the order in which they were requested, so a seed
    gives the same study at any parallelism.

    `statistics` are those of the baseline and of all candidates that were fully evaluated so far. `heldout` is what the
    held-out evaluation afterwards will cost: the time budget covers it. With `learned`, its points are the candidates,
    and not the sampler's.
    """

    def __init__(
        self,
        running: RunningStudy,
        measurer: Measurer,
        first: Sequence[AblationParameters] = (),
        statistics: PruningStatistics | None = None,
        heldout: HeldoutCost | None = None,
        learned: LearnedPoints | None = None,
    ) -> None:
        self._study = running.study
        self._measurer = measurer
        self._evaluator = running.evaluator
        self._baseline = running.baseline
        self._settings = settings = running.loaded.settings
        self._reporter = running.reporter
        self._heldout = heldout or HeldoutCost()
        self._failures = 0
        self._warned = False
        self._open: deque[Candidate] = deque()
        self._outcomes: dict[int, Outcome] = {}
        self.statistics = statistics or running.evaluator.statistics(running.baseline)
        # The order matters only where candidates are pruned by those that were evaluated before them.
        ordering = settings.order_startup_trials and settings.prune_dominated and running.evaluator.prunes
        self._startup: StartupQueue | LearnedPoints
        if learned is not None:
            self._startup = learned
        else:
            self._startup = StartupQueue(running.study, measurer, ordering, first)
        self._learned = learned

    def run(self, n_trials: int) -> bool:
        """Runs trials until `n_trials` are finished or the time budget is used up; returns False after Ctrl+C.

        Raises:
            ModelError: `FAILURES_IN_A_ROW` trials failed one after the other.
        """
        clock = Clock(n_trials - self._study.n_finished(), self._settings.time_budget, self._heldout)
        with self._reporter.search(self._state(n_trials, clock), self._evaluator.rows) as view:
            if self._learned is not None:
                self._learned.after_step = partial(self._show_step, clock, view)
            try:
                self._request(n_trials, clock, view)
                while self._open:
                    if self._open[0].number not in self._outcomes:
                        for job, outcome in self._measurer.outcomes(partial(_count, clock, view)):
                            self._outcomes[job.number] = outcome
                    self._report_in_order(n_trials, clock, view)
            except KeyboardInterrupt:
                self._study.take_back_running(own=True)
                return False
        if self._study.n_finished() < n_trials:
            self._reporter.say(f"The time budget is used up: {self._study.n_finished()} of {n_trials} trials are done.")
        return True

    def _show_step(self, clock: Clock, view: SearchView, point: int, step: int, steps: int, left: float) -> None:
        """Shows a step of learning; says once, before the first candidate, that it takes longer than the budget."""
        view.learning(point, step, steps, left)
        assert self._learned is not None
        first = not self._open and not self._study.n_finished()
        if first and not self._warned and step >= TELLING_STEPS and clock.exceeded_after(self._learned.left):
            self._warned = True
            self._reporter.warn(
                f"The first edit needs about {duration(self._learned.left)} more of learning, longer than the time "
                "budget. It is learned and measured all the same, and the search ends with it. Ctrl+C ends it earlier, "
                "and the same command then continues after the last finished point. The methods oblique and kernel "
                "measure edits without learning."
            )

    def _request(self, n_trials: int, clock: Clock, view: SearchView) -> None:
        """Requests as many candidates as may be open, each with the limits and statistics of this moment."""
        self._study.take_back_lost()
        while len(self._open) < self._most_open and not clock.over(len(self._open)):
            left = n_trials - self._study.n_finished() - len(self._open)
            if left <= 0 or (self._open and self._startup.waits):
                return
            progress = partial(_count, clock, view)
            clock.add_previews(self._startup.refill(clock.fitting(left), self.statistics, progress))
            clock.learning = self._startup.time_for(left - 1)
            [candidate] = self._study.ask(1)
            self._open.append(candidate)
            fault = candidate.parameters.fault
            if fault is not None:
                self._outcomes[candidate.number] = CandidateError(fault)
                continue
            self._measurer.submit(
                EvaluationRequest(
                    candidate.number, candidate.parameters, self._limit(), self.statistics, candidate.known
                )
            )

    @property
    def _most_open(self) -> int:
        most = self._measurer.ahead
        return most if self._learned is None else min(self._learned.ahead, most)

    def _report_in_order(self, n_trials: int, clock: Clock, view: SearchView) -> None:
        while self._open and self._open[0].number in self._outcomes:
            candidate = self._open.popleft()
            self._report(candidate, self._outcomes.pop(candidate.number), n_trials, clock, view)
            # At once: the limit of the next candidate must not depend on which others happen to be done.
            self._request(n_trials, clock, view)

    def _report(self, candidate: Candidate, outcome: Outcome, n_trials: int, clock: Clock, view: SearchView) -> None:
        clock.add_trial(previewed=bool(candidate.known))
        if isinstance(outcome, CandidateError):
            self._fail(candidate, str(outcome))
            view.failed(candidate.number, str(outcome), self._state(n_trials, clock))
            return
        assert isinstance(outcome, Evaluation)
        self._failures = 0
        if outcome.declined_at is not None:
            self.statistics = self.statistics.learn(outcome.declined_at)
        scores = self._evaluator.scores(outcome, self._baseline)
        trial = self._study.tell(candidate, outcome.recorded(), scores, self._measured_by(candidate.number))
        view.complete(trial, self._state(n_trials, clock))

    def _measured_by(self, number: int) -> str | None:
        """The actor that measured a trial; None for this process and its forks."""
        named = getattr(self._measurer, "measured_by", None)
        return None if named is None else named(number)

    def _limit(self) -> Limit | None:
        """Maps a candidate's other metrics to the number of refusals at which the trials so far dominate it."""
        if not self._settings.prune_dominated:
            return None
        baseline = self._study.record.baseline
        # The front dominates all that any trial dominates, and is small enough to be sent with every candidate.
        return partial(pruning_limit, self._study.front(), baseline)

    def _fail(self, candidate: Candidate, reason: str) -> None:
        self._study.fail(candidate, reason)
        self._failures += 1
        if self._failures >= FAILURES_IN_A_ROW:
            raise ModelError(
                f"Expected candidates that can be measured, but {self._failures} failed one after the other "
                f"({reason}). Load the model in another dtype (dtypes = bfloat16 or float32)."
            )

    def _state(self, n_trials: int, clock: Clock) -> SearchState:
        record = self._evaluator.record(self._baseline)
        trials = self._study.trials
        front = self._study.front()
        clock.set_front(len(front))
        return SearchState(
            finished=self._study.n_finished(),
            wanted=n_trials,
            front=front,
            best=knee(front, record) if front else None,
            baseline=record,
            elapsed=clock.elapsed,
            remaining=clock.remaining,
            trials=trials,
            under_way=len(self._open) + self._study.n_waiting() + len(self._startup),
            workers=getattr(self._measurer, "workers", no_workers),
        )


def _count(clock: Clock, view: SearchView, prompts: int) -> None:
    """Reports that so many more prompts are done."""
    clock.add_prompts(prompts)
    view.rows(prompts)
