"""A recorded search: asks for candidates, records their metrics, reads the front."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from ..ablation.methods.base import SearchSpace
from ..ablation.methods.registry import AnyParameters
from ..ablation.parameters import AblationParameters
from ..errors import StudyError
from .complete_trials import CompleteTrials
from .creation import check_ours, create_optuna, open_shared
from .enqueued import KNOWN, PARAMETERS, given_with, known_of, parameters_of
from .journal import SingleWriter, repair, synced_later, synced_together, tensors_path
from .metrics import Metric
from .reader import RECORD, RUNS, count_by_state, read_record
from .sampler import RandomDraws, SamplerOptions, make_sampler
from .schema import RunRecord, StudyRecord, TrialRecord
from .shared import DRIVER, SECONDS_A_PULSE, TENSORS, SharedStorage

FAILURE = "failure"
MEASURED_BY = "measured by"
OBJECTIVES = ("KL score", "refusals score")
_PARAMETERS: TypeAdapter[AblationParameters] = TypeAdapter(AnyParameters)


@dataclass(frozen=True, slots=True)
class Candidate:
    """Parameters that the sampler suggests, and the Optuna trial that waits for their scores.

    `known` are the metrics that a preview measured before the candidate was enqueued.
    """

    number: int
    parameters: AblationParameters
    trial: Any
    known: Mapping[str, float] = field(default_factory=dict)


class Study:
    """The study that this process runs. Close it, or use it as a context manager."""

    def __init__(
        self,
        path: Path,
        space: SearchSpace,
        sampler: SamplerOptions,
        writer: SingleWriter | None = None,
        objectives: Sequence[str] = OBJECTIVES,
        shared: SharedStorage | None = None,
    ) -> None:
        """Opens the journal at `path`, or begins one that minimises `objectives`.

        A given `writer` holds the journal already, and still holds it after `close`. With `shared`, the study is in
        that storage, to which other runs write too, and `path` gets copies of it.

        Raises:
            StudyError: another process holds it, or it is damaged, or it is another program's.
        """
        self.path = path
        self.space = space
        self._startup = sampler.startup
        self._shared = shared
        self._record: StudyRecord | None = None
        self._complete: CompleteTrials | None = None
        self._looked = time.monotonic()
        self._writer = writer or SingleWriter(path)
        # Locks within a process are counted: a given writer is released as often as it was acquired.
        self._writer.acquire()
        try:
            self.mended = repair(path) if path.exists() else 0
            check_ours(path)
            self._optuna = create_optuna(path, objectives) if shared is None else open_shared(shared, objectives)
            # Runs that share a study must not draw the same candidates.
            others = 0 if shared is None else 1_000 * (shared.drivers() - 1)
            options = sampler.resumed(len(self._optuna.get_trials(deepcopy=False)) + others)
            self._optuna.sampler = make_sampler(options)
            self._draws = RandomDraws(space, options.seed)
        except BaseException:
            self._writer.release()
            raise

    def __enter__(self) -> "Study":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._shared is not None:
            self._shared.close()
        self._writer.release()

    def copy_here(self) -> None:
        """Brings the journal at `path` up to date with a study that is shared."""
        if self._shared is not None:
            self._shared.copy_to(self.path)

    def begin(self, record: StudyRecord) -> None:
        """Writes the study's record; a journal without one counts as never begun."""
        if self._shared is not None:
            # Stored before the record, for which the other runs wait.
            self._shared.put_file(TENSORS, tensors_path(self.path).read_bytes())
        self._optuna.set_user_attr(RECORD, record.model_dump(mode="json"))
        self._record = None

    def note_run(self, run: RunRecord) -> None:
        """Adds a start of the program to those that made the trials."""
        if self._shared is not None:
            # A key of its own: two runs that begin at once would overwrite a common list.
            self._optuna.set_user_attr(f"{RUNS} {run.started} {self._shared.driver}", run.model_dump(mode="json"))
            return
        runs = [*self._optuna.user_attrs.get(RUNS, []), run.model_dump(mode="json")]
        self._optuna.set_user_attr(RUNS, runs)

    @property
    def record(self) -> StudyRecord:
        if self._record is None:
            self._record = read_record(self._optuna, self.path)
        return self._record

    def unguided(self, most: int) -> int:
        """How many candidates, `most` at most, can be drawn before the sampler learns from any trial: those that are
        enqueued count as drawn."""
        from optuna.trial import TrialState

        # Without a look at all trials in the two cases that thousands of trials bring.
        if self._startup == math.inf:
            return most
        if len(self._trials.by_number) >= self._startup:
            return 0
        unlearned = (TrialState.COMPLETE, TrialState.RUNNING, TrialState.WAITING)
        drawn = len(self._optuna.get_trials(deepcopy=False, states=unlearned))
        return int(max(0, min(most, self._startup - drawn)))

    def draw(self, count: int) -> list[AblationParameters]:
        """The next candidates of the random start-up; no trial holds them yet."""
        return self._draws.next(count)

    def n_waiting(self) -> int:
        """The number of candidates that are enqueued and not requested yet."""
        from optuna.trial import TrialState

        return len(self._optuna.get_trials(deepcopy=False, states=(TrialState.WAITING,)))

    def take_back_lost(self) -> int:
        """`take_back_running` for the trials of lost runs that share this study; checks at intervals."""
        if self._shared is None or time.monotonic() - self._looked < SECONDS_A_PULSE:
            return 0
        self._looked = time.monotonic()
        return self.take_back_running()

    def take_back_running(self, own: bool = False) -> int:
        """Fails trials that a kill left running and enqueues their parameters again; returns their number.

        In a shared study, trials of other live runs keep running; with `own`, this run's are taken back.
        """
        from optuna.trial import TrialState

        left = self._optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if self._shared is not None:
            left = [trial for trial in left if self._is_left(trial, own)]
        waiting = [parameters_of(t) for t in self._optuna.get_trials(deepcopy=False, states=(TrialState.WAITING,))]
        for trial in left:
            self._take_back(trial, waiting)
        return len(left)

    def _take_back(self, trial: Any, waiting: Sequence[dict[str, Any]]) -> None:
        from optuna.trial import TrialState

        parameters = parameters_of(trial)
        again = parameters and parameters not in waiting and FAILURE not in trial.user_attrs
        if self._shared is not None:
            try:
                # Fails first: of two runs that take a trial back, only one can fail it.
                self._optuna.tell(trial.number, state=TrialState.FAIL)
            except ValueError:
                return
        # Enqueued before the trial fails: a kill between the two leaves it running, to be taken back next time.
        if again:
            self._enqueue(parameters, given_with(trial))
        if self._shared is None:
            self._optuna.tell(trial.number, state=TrialState.FAIL)

    def _is_left(self, trial: Any, own: bool) -> bool:
        assert self._shared is not None
        driver = trial.user_attrs.get(DRIVER)
        return own if driver == self._shared.driver else self._shared.lost(driver)

    def enqueue(self, parameters: AblationParameters, known: Mapping[str, float] | None = None) -> None:
        """Adds a candidate that `ask` returns before any of the sampler's, with the metrics that are known of it."""
        given: dict[str, Any] = {KNOWN: dict(known)} if known else {}
        if not parameters.sampled:
            given[PARAMETERS] = parameters.model_dump(mode="json")
        self._enqueue(self.space.encode(parameters), given)

    def _enqueue(self, encoded: dict[str, Any], given: Mapping[str, Any]) -> None:
        self._optuna.enqueue_trial(encoded, user_attrs=dict(given) or None)

    def holds(self, parameters: AblationParameters) -> bool:
        """Whether some trial has these parameters, measured or not."""
        encoded = self.space.encode(parameters)
        return any(parameters_of(trial) == encoded for trial in self._optuna.get_trials(deepcopy=False))

    def ask(self, count: int) -> list[Candidate]:
        # A power failure loses nothing measured: the same candidates, or others, are requested again.
        with synced_later(self._optuna):
            return self._ask(count)

    def _ask(self, count: int) -> list[Candidate]:
        candidates = []
        for _ in range(count):
            trial = self._optuna.ask()
            if self._shared is not None:
                trial.set_user_attr(DRIVER, self._shared.driver)
            candidates.append(Candidate(trial.number, self._parameters_of(trial), trial, known_of(trial)))
        return candidates

    def _parameters_of(self, trial: Any) -> AblationParameters:
        """The sampler's parameters, or those that the trial was enqueued with.

        Raises:
            StudyError: the latter are damaged.
        """
        whole = trial.user_attrs.get(PARAMETERS)
        try:
            return self.space.suggest(trial) if whole is None else _PARAMETERS.validate_python(whole)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            asked = self._optuna.get_trials(deepcopy=False)[trial.number]
            if whole is None and "fixed_params" not in asked.system_attrs:
                raise
            raise StudyError(
                f"Expected the parameters of trial {trial.number}, which waits in {self.path}, but they are damaged "
                f"({str(error).splitlines()[0]:.100}). Restore the file from a copy, or begin a new study with "
                "--resume restart."
            ) from error

    def tell(
        self, candidate: Candidate, metrics: Mapping[str, Metric], scores: Sequence[float], by: str | None = None
    ) -> TrialRecord:
        """Records a measured candidate: metrics first, then the state that makes them count. `by` names the actor that
        measured it.

        For a pruned candidate one metric is a lower bound, and `scores` were computed from its estimate.

        Raises:
            ValueError: a metric or a score is NaN or infinite; such a candidate fails.
        """
        values = {name: metric.value for name, metric in metrics.items()}
        if not all(map(math.isfinite, (*values.values(), *scores))):
            raise ValueError(f"expected finite metrics, got {values} and scores {scores}: use `fail`")
        record = TrialRecord(number=candidate.number, parameters=candidate.parameters, metrics=dict(metrics))
        if by is not None:
            candidate.trial.set_user_attr(MEASURED_BY, by)
        with synced_together(self._optuna):
            candidate.trial.set_user_attr("trial", record.model_dump(mode="json"))
            self._optuna.tell(candidate.trial, list(scores))
        if self._complete is not None:
            self._complete.add(record)
        return record

    def fail(self, candidate: Candidate, reason: str) -> None:
        """Records that a candidate could not be measured, and why."""
        from optuna.trial import TrialState

        candidate.trial.set_user_attr(FAILURE, reason)
        self._optuna.tell(candidate.trial, state=TrialState.FAIL)
        if self._complete is not None:
            self._complete.n_failed += 1

    @property
    def _trials(self) -> CompleteTrials:
        """All complete trials. Each is read once: re-reading thousands would take longer than measuring one."""
        if self._complete is None or self._shared is not None:
            known = self._complete
            self._complete = CompleteTrials.of(self._optuna, self.path, FAILURE, known)
        return self._complete

    @property
    def trials(self) -> list[TrialRecord]:
        return self._trials.records

    def front(self) -> list[TrialRecord]:
        """The Pareto front of all trials so far."""
        return self._trials.front(self.record.baseline)

    def n_finished(self) -> int:
        """Trials that count towards n_trials: complete, or failed with a reason (not those that a kill interrupted)."""
        return self._trials.n_finished

    def count_by_state(self) -> dict[str, int]:
        return count_by_state(self._optuna)
