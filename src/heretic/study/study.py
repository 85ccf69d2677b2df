"""A recorded search: asks for candidates, records their metrics, reads the front."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from ..ablation.methods.base import SearchSpace
from ..ablation.methods.registry import AnyParameters
from ..ablation.parameters import AblationParameters
from ..errors import StudyError
from . import version1
from .journal import SingleWriter, make_storage, repair
from .metrics import Metric
from .reader import NAME, RECORD, RUNS, complete_trials, count_by_state, open_optuna, read_record
from .sampler import RandomDraws, SamplerOptions, make_sampler
from .schema import RunRecord, StudyRecord, TrialRecord

FAILURE = "failure"
KNOWN = "known metrics"
PARAMETERS = "parameters"
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
    ) -> None:
        """Opens the journal at `path`, or begins one that minimises `objectives`.

        A `writer` that is given holds the journal already, and still holds it after `close`.

        Raises:
            StudyError: another process holds it, or it is damaged, or it is another program's.
        """
        self.path = path
        self.space = space
        self._startup = sampler.startup
        self._writer = writer or SingleWriter(path)
        # Locks of one process count: a writer that was given is released as often as it was acquired.
        self._writer.acquire()
        try:
            self.mended = repair(path) if path.exists() else 0
            _check_ours(path)
            self._optuna = _create_optuna(path, objectives)
            options = sampler.resumed(len(self._optuna.get_trials(deepcopy=False)))
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
        self._writer.release()

    def begin(self, record: StudyRecord) -> None:
        """Writes the study's record; a journal without one counts as never begun."""
        self._optuna.set_user_attr(RECORD, record.model_dump(mode="json"))

    def note_run(self, run: RunRecord) -> None:
        """Adds a start of the program to those that made the trials."""
        runs = [*self._optuna.user_attrs.get(RUNS, []), run.model_dump(mode="json")]
        self._optuna.set_user_attr(RUNS, runs)

    @property
    def record(self) -> StudyRecord:
        return read_record(self._optuna, self.path)

    def unguided(self, most: int) -> int:
        """How many candidates, `most` at most, can be drawn before the sampler learns from any trial: those that are
        enqueued count as drawn."""
        from optuna.trial import TrialState

        unlearned = (TrialState.COMPLETE, TrialState.RUNNING, TrialState.WAITING)
        drawn = len(self._optuna.get_trials(deepcopy=False, states=unlearned))
        return int(max(0, min(most, self._startup - drawn)))

    def draw(self, count: int) -> list[AblationParameters]:
        """The next candidates of the random start-up; no trial holds them yet."""
        return self._draws.next(count)

    def n_waiting(self) -> int:
        """Candidates that are enqueued and were not asked for yet."""
        from optuna.trial import TrialState

        return len(self._optuna.get_trials(deepcopy=False, states=(TrialState.WAITING,)))

    def take_back_running(self) -> int:
        """Fails trials that a kill left running and enqueues their parameters again; returns their number."""
        from optuna.trial import TrialState

        left = self._optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        waiting = [_parameters(t) for t in self._optuna.get_trials(deepcopy=False, states=(TrialState.WAITING,))]
        for trial in left:
            parameters = _parameters(trial)
            # Enqueued before the trial fails: a kill between the two leaves it running, to be taken back next time.
            if parameters and parameters not in waiting and FAILURE not in trial.user_attrs:
                self._enqueue(parameters, _given_with(trial))
            self._optuna.tell(trial.number, state=TrialState.FAIL)
        return len(left)

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
        return any(_parameters(trial) == encoded for trial in self._optuna.get_trials(deepcopy=False))

    def ask(self, count: int) -> list[Candidate]:
        candidates = []
        for _ in range(count):
            trial = self._optuna.ask()
            candidates.append(Candidate(trial.number, self._parameters_of(trial), trial, _known_of(trial)))
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
        candidate.trial.set_user_attr("trial", record.model_dump(mode="json"))
        self._optuna.tell(candidate.trial, list(scores))
        return record

    def fail(self, candidate: Candidate, reason: str) -> None:
        """Records that a candidate could not be measured, and why."""
        from optuna.trial import TrialState

        candidate.trial.set_user_attr(FAILURE, reason)
        self._optuna.tell(candidate.trial, state=TrialState.FAIL)

    @property
    def trials(self) -> list[TrialRecord]:
        return complete_trials(self._optuna, self.path)

    def n_finished(self) -> int:
        """Trials that count towards n_trials: complete, or failed with a reason (not those that a kill interrupted)."""
        return len(self.trials) + sum(FAILURE in t.user_attrs for t in self._optuna.get_trials(deepcopy=False))

    def count_by_state(self) -> dict[str, int]:
        return count_by_state(self._optuna)


def _parameters(trial: Any) -> dict[str, Any]:
    """A trial's parameters, or those that it was enqueued with if a kill came before it drew any."""
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def _given_with(trial: Any) -> dict[str, Any]:
    """What a trial was enqueued with besides what the sampler is told."""
    known = _known_of(trial)
    given: dict[str, Any] = {KNOWN: dict(known)} if known else {}
    return given | ({PARAMETERS: trial.user_attrs[PARAMETERS]} if PARAMETERS in trial.user_attrs else {})


def _known_of(trial: Any) -> Mapping[str, float]:
    """The metrics that a preview measured before the trial was enqueued."""
    known = trial.user_attrs.get(KNOWN) or version1.known_values(trial.user_attrs)
    # In a file that was edited by hand, anything: such metrics are measured again.
    numbers = isinstance(known, dict) and all(isinstance(value, int | float) for value in known.values())
    return known if numbers else {}


def _check_ours(path: Path) -> None:
    """Our record precedes the first trial; heretic-llm gives its studies the same name and place, without one.

    Raises:
        StudyError: there are trials without a record.
    """
    study = open_optuna(path, missing_ok=True) if path.exists() else None
    if study is None or RECORD in study.user_attrs:
        return
    count = len(study.get_trials(deepcopy=False))
    if count:
        raise StudyError(
            f"Expected a study of this program in {path}, found {count} trial{'s' if count > 1 else ''} without a "
            "record of what they measured, as heretic-llm writes them. Give this run a place of its own with "
            "--study-checkpoint-dir, or begin a new study with --resume restart, which keeps that file."
        )


def _create_optuna(path: Path, objectives: Sequence[str]) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=make_storage(path), study_name=NAME, load_if_exists=True, directions=["minimize"] * len(objectives)
    )
    if len(study.directions) == len(objectives):
        with warnings.catch_warnings():
            # Optuna calls metric names experimental at every start.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(list(objectives))
    return study
