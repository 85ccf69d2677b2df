"""A recorded search: ask for candidates, tell what was measured, read the front."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..ablation.parameters import AblationParameters
from ..errors import StudyError
from .journal import SingleWriter, make_storage, repair
from .reader import NAME, RECORD, RUNS, complete_trials, count_by_state, open_optuna, read_record
from .sampler import RandomDraws, SamplerName, make_sampler, resumed_seed
from .schema import RunRecord, StudyRecord, TrialRecord
from .space import SearchSpace

FAILURE = "failure"
LOOKED = "kl_divergence"
METRICS = ["KL score", "refusals score", "over-refusals score"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """Parameters that the sampler suggests, and the trial they will be told to.

    `kl_divergence` (nats) is known of those that were looked at before they were enqueued.
    """

    number: int
    parameters: AblationParameters
    trial: Any
    kl_divergence: float | None = None


class Study:
    """The study that this process runs. Close it, or use it as a context manager."""

    def __init__(self, path: Path, space: SearchSpace, writer: SingleWriter | None = None, objectives: int = 2) -> None:
        """Opens or begins the journal at `path`; `writer` holds it already, and goes on holding it afterwards.

        A new study minimises so many `objectives`: KL score, refusals score, over-refusals score.

        Raises:
            StudyError: another process holds it, or it is damaged, or it is another program's.
        """
        self.path = path
        self.space = space
        self._writer = writer or SingleWriter(path)
        # Locks of one process count: a writer that was given is released as often as it was acquired.
        self._writer.acquire()
        try:
            self.mended = repair(path) if path.exists() else 0
            _check_ours(path)
            self._optuna = _create_optuna(path, objectives)
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
        """Writes what the study is about; before that, a journal counts as never begun."""
        self._optuna.set_user_attr(RECORD, record.model_dump(mode="json"))

    def note_run(self, run: RunRecord) -> None:
        """Adds a start of the program to those that made the trials."""
        runs = [*self._optuna.user_attrs.get(RUNS, []), run.model_dump(mode="json")]
        self._optuna.set_user_attr(RUNS, runs)

    @property
    def record(self) -> StudyRecord:
        return read_record(self._optuna, self.path)

    def use_sampler(self, name: SamplerName, seed: int, n_startup_trials: int, n_ei_candidates: int) -> None:
        resumed = resumed_seed(seed, len(self._optuna.get_trials(deepcopy=False)))
        # Random search learns from nothing: all its trials are start-up.
        self._startup = math.inf if name == "random" else n_startup_trials
        self._draws = RandomDraws(self.space, resumed)
        self._optuna.sampler = make_sampler(name, resumed, n_startup_trials, n_ei_candidates)

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
                known = {LOOKED: trial.user_attrs[LOOKED]} if LOOKED in trial.user_attrs else None
                self._optuna.enqueue_trial(parameters, user_attrs=known)
            self._optuna.tell(trial.number, state=TrialState.FAIL)
        return len(left)

    def enqueue(self, parameters: AblationParameters, kl_divergence: float | None = None) -> None:
        """A candidate to be asked for before the sampler chooses any; its KL (nats), where that is known already."""
        known = None if kl_divergence is None else {LOOKED: kl_divergence}
        self._optuna.enqueue_trial(self.space.encode(parameters), user_attrs=known)

    def holds(self, parameters: AblationParameters) -> bool:
        """Whether some trial has these parameters, measured or not."""
        encoded = self.space.encode(parameters)
        return any(_parameters(trial) == encoded for trial in self._optuna.get_trials(deepcopy=False))

    def ask(self, count: int) -> list[Candidate]:
        candidates = []
        for _ in range(count):
            trial = self._optuna.ask()
            known = trial.user_attrs.get(LOOKED)
            candidates.append(Candidate(trial.number, self.space.suggest(trial), trial, known))
        return candidates

    def tell(
        self,
        candidate: Candidate,
        refusals: int,
        kl_divergence: float,
        scores: Sequence[float],
        bound: bool = False,
        over_refusals: int | None = None,
    ) -> TrialRecord:
        """Records a measured candidate: figures first, then the state that makes them count.

        Of a `bound` (at least that many refusals), `scores` are those of an estimate.

        Raises:
            ValueError: a figure is NaN or infinite; such a candidate fails.
        """
        if not all(map(math.isfinite, (kl_divergence, *scores))):
            raise ValueError(f"expected finite figures, got KL {kl_divergence} and scores {scores}: use `fail`")
        record = TrialRecord(
            number=candidate.number,
            refusals=refusals,
            kl_divergence=kl_divergence,
            parameters=candidate.parameters,
            bound=bound,
            over_refusals=over_refusals,
        )
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
        return complete_trials(self._optuna)

    def n_finished(self) -> int:
        """Trials that count towards n_trials: complete, or failed with a reason (not those that a kill interrupted)."""
        return len(self.trials) + sum(FAILURE in t.user_attrs for t in self._optuna.get_trials(deepcopy=False))

    def count_by_state(self) -> dict[str, int]:
        return count_by_state(self._optuna)


def _parameters(trial: Any) -> dict[str, Any]:
    """What a trial was given, or was enqueued with where a kill came before it drew any."""
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def _check_ours(path: Path) -> None:
    """Our record stands before the first trial; heretic-llm gives its studies the same name and place, without one.

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
            "--study-checkpoint-dir, or start afresh with --resume restart, which keeps that file beside the new one."
        )


def _create_optuna(path: Path, objectives: int) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=make_storage(path), study_name=NAME, load_if_exists=True, directions=["minimize"] * objectives
    )
    with warnings.catch_warnings():
        # Optuna calls metric names experimental at every start.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(METRICS[: len(study.directions)])
    return study
