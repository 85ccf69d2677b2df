"""The search: ask, measure, tell, until trials or time are used up."""

from collections import deque
from collections.abc import Sequence
from copy import deepcopy
from functools import partial

from ..ablation.parameters import AblationParameters
from ..config import Settings
from ..errors import CandidateError, ModelError
from ..evaluation.evaluator import Baseline, Enough, Evaluation, Evaluator
from ..evaluation.scores import scores
from ..events import Reporter, SearchState, SearchView
from ..session.records import baseline_record
from ..study.metrics import Metric
from ..study.pareto import knee, pareto_front, pruning_limit
from ..study.schema import BaselineRecord, TrialRecord
from ..study.study import Candidate, Study
from .measurer import EvaluationRequest, Measurer, Outcome
from .startup_order import StartupQueue
from .time_budget import Clock

FAILURES_IN_A_ROW = 10


class Search:
    """Runs trials of one study. What a candidate gives is told in the order of asking, whatever ends first: the same
    seed gives the same study, however many are measured at once."""

    def __init__(
        self,
        study: Study,
        measurer: Measurer,
        evaluator: Evaluator,
        baseline: Baseline,
        settings: Settings,
        first: Sequence[AblationParameters] = (),
    ) -> None:
        self._study = study
        self._measurer = measurer
        self._evaluator = evaluator
        self._baseline = baseline
        self._settings = settings
        self._failures = 0
        self._open: deque[Candidate] = deque()
        self._outcomes: dict[int, Outcome] = {}
        # An order is of use where candidates end early for what was measured before them.
        looking = settings.order_startup_trials and settings.prune_dominated and settings.objective != "log-odds"
        self._line_up = StartupQueue(study, measurer, looking, evaluator.learned, first)

    def run(self, n_trials: int, reporter: Reporter) -> bool:
        """Trials until `n_trials` are finished or the time budget is over; False if Ctrl+C ended it.

        Raises:
            ModelError: so many trials failed in a row that the rest would too.
        """
        clock = Clock(n_trials - self._study.n_finished(), self._settings.time_budget)
        with reporter.search(self._state(n_trials, clock), self._evaluator.rows_a_candidate) as view:
            try:
                self._ask(n_trials, clock, view)
                while self._open:
                    for job, outcome in self._measurer.outcomes(view.rows):
                        self._outcomes[job.number] = outcome
                    self._tell_in_turn(n_trials, clock, view)
            except KeyboardInterrupt:
                self._study.take_back_running()
                return False
        if self._study.n_finished() < n_trials:
            reporter.say(f"The time budget is over: {self._study.n_finished()} of {n_trials} trials are done.")
        return True

    def _ask(self, n_trials: int, clock: Clock, view: SearchView) -> None:
        """As many candidates as may be open; each is measured with what is known now."""
        while len(self._open) < self._measurer.ahead and not clock.over(len(self._open)):
            left = n_trials - self._study.n_finished() - len(self._open)
            if left <= 0 or (self._open and self._line_up.wants_preview):
                return
            clock.looked(self._line_up.refill(clock.fitting(left), view.rows))
            [candidate] = self._study.ask(1)
            self._open.append(candidate)
            learned = deepcopy(self._evaluator.learned)
            self._measurer.submit(
                EvaluationRequest(
                    candidate.number,
                    candidate.parameters,
                    self._enough(),
                    learned,
                    candidate.known.get("kl_divergence"),
                )
            )

    def _tell_in_turn(self, n_trials: int, clock: Clock, view: SearchView) -> None:
        while self._open and self._open[0].number in self._outcomes:
            candidate = self._open.popleft()
            self._tell(candidate, self._outcomes.pop(candidate.number), n_trials, clock, view)
            # At once: what a candidate is asked with must not depend on what else happens to be done.
            self._ask(n_trials, clock, view)

    def _tell(self, candidate: Candidate, outcome: Outcome, n_trials: int, clock: Clock, view: SearchView) -> None:
        clock.lap(bool(candidate.known))
        if isinstance(outcome, CandidateError):
            self._fail(candidate, str(outcome))
            view.failed(candidate.number, str(outcome), self._state(n_trials, clock))
            return
        assert isinstance(outcome, Evaluation)
        self._failures = 0
        if outcome.declined_at is not None:
            self._evaluator.learned.learn(outcome.declined_at)
        trial = self._record(candidate, outcome)
        view.complete(trial, self._state(n_trials, clock))

    def _record(self, candidate: Candidate, evaluation: Evaluation) -> TrialRecord:
        settings = self._settings
        objectives = scores(
            evaluation,
            self._baseline,
            settings.kl_divergence_scale,
            settings.kl_divergence_target,
            settings.objective,
        )
        metrics = {
            "refusals": Metric(value=evaluation.refusals, censored=evaluation.bound),
            "kl_divergence": Metric(value=evaluation.kl_divergence),
        }
        if evaluation.over_refusals is not None:
            metrics["over_refusals"] = Metric(value=evaluation.over_refusals)
        return self._study.tell(candidate, metrics, objectives)

    def _enough(self) -> Enough | None:
        """From a candidate's KL and over-refusals to the refusals that rule it out, by the trials so far."""
        if not self._settings.prune_dominated:
            return None
        baseline = self._study.record.baseline
        # The front rules out what all trials together do, and is small enough to be sent with every candidate.
        return partial(_enough, pareto_front(self._study.trials, baseline), baseline)

    def _fail(self, candidate: Candidate, reason: str) -> None:
        self._study.fail(candidate, reason)
        self._failures += 1
        if self._failures >= FAILURES_IN_A_ROW:
            raise ModelError(
                f"Expected candidates that can be measured, but {self._failures} failed one after the other "
                f"({reason}). Load the model in another dtype (dtypes = bfloat16 or float32)."
            )

    def _state(self, n_trials: int, clock: Clock) -> SearchState:
        record = baseline_record(self._baseline)
        trials = self._study.trials
        front = pareto_front(trials, record)
        return SearchState(
            finished=self._study.n_finished(),
            wanted=n_trials,
            front=front,
            best=knee(front, record) if front else None,
            baseline=record,
            elapsed=clock.elapsed,
            remaining=clock.remaining,
            trials=trials,
            under_way=len(self._open) + self._study.n_waiting() + len(self._line_up),
        )


def _enough(
    front: Sequence[TrialRecord], baseline: BaselineRecord, kl_divergence: float, over_refusals: int | None
) -> int | None:
    known = {"kl_divergence": kl_divergence, "over_refusals": over_refusals or 0}
    limit = pruning_limit(front, baseline, "refusals", known)
    return None if limit is None else int(limit)
