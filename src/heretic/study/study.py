"""A recorded search: ask for candidates, tell what was measured, read the front."""

import math
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..ablation.parameters import AblationParameters
from ..errors import StudyError
from .journal import SingleWriter, make_storage, repair
from .records import BaselineRecord, RunRecord, StudyRecord, TrialRecord
from .sampler import SamplerName, make_sampler, resumed_seed
from .space import SearchSpace

RECORD = "heretic"
RUNS = "heretic runs"
NAME = "heretic"
FAILURE = "failure"
METRICS = ["KL score", "refusals score", "over-refusals score"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """Parameters that the sampler suggests, and the trial they will be told to."""

    number: int
    parameters: AblationParameters
    trial: Any


class RecordedStudy:
    """A study's journal, read only: safe while a search is running."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise StudyError(
                f"No study at {path}. Give the .jsonl file of a study, or the name of a model it was run on."
            )
        self.path = path
        self._study = _open_optuna(path)
        self.record = _read_record(self._study, path)

    @property
    def baseline(self) -> BaselineRecord:
        return self.record.baseline

    @property
    def trials(self) -> list[TrialRecord]:
        """Complete trials, in their order."""
        return complete_trials(self._study)

    @property
    def runs(self) -> list[RunRecord]:
        """The starts of the program that made the trials; none in studies from before they were recorded."""
        return [RunRecord.model_validate(run) for run in self._study.user_attrs.get(RUNS, [])]

    @property
    def last_run(self) -> RunRecord | None:
        runs = self.runs
        return runs[-1] if runs else None

    @property
    def optuna(self) -> Any:
        """Optuna's own study, to be read."""
        return self._study

    def count_by_state(self) -> dict[str, int]:
        return count_by_state(self._study)


def has_record(path: Path) -> bool:
    """Whether a study was begun in earnest here: a kill may leave a journal without one."""
    if not path.exists() or path.stat().st_size == 0:
        return False
    study = _open_optuna(path, missing_ok=True)
    return study is not None and RECORD in study.user_attrs


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
        return _read_record(self._optuna, self.path)

    def use_sampler(self, name: SamplerName, seed: int, n_startup_trials: int, n_ei_candidates: int) -> None:
        self._optuna.sampler = make_sampler(
            name, resumed_seed(seed, len(self._optuna.get_trials(deepcopy=False))), n_startup_trials, n_ei_candidates
        )

    def take_back_running(self) -> int:
        """Fails trials that a kill left running and enqueues their parameters again; returns their number."""
        from optuna.trial import TrialState

        left = self._optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        waiting = [_parameters(t) for t in self._optuna.get_trials(deepcopy=False, states=(TrialState.WAITING,))]
        for trial in left:
            parameters = _parameters(trial)
            # Enqueued before the trial fails: a kill between the two leaves it running, to be taken back next time.
            if parameters and parameters not in waiting and FAILURE not in trial.user_attrs:
                self._optuna.enqueue_trial(parameters)
            self._optuna.tell(trial.number, state=TrialState.FAIL)
        return len(left)

    def enqueue(self, parameters: Iterable[AblationParameters]) -> None:
        """Candidates to be asked for before the sampler chooses any."""
        for each in parameters:
            self._optuna.enqueue_trial(self.space.encode(each))

    def ask(self, count: int) -> list[Candidate]:
        candidates = []
        for _ in range(count):
            trial = self._optuna.ask()
            candidates.append(Candidate(trial.number, self.space.suggest(trial), trial))
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


def complete_trials(study: Any) -> list[TrialRecord]:
    """Every trial that was told its figures."""
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [TrialRecord.model_validate(t.user_attrs["trial"]) for t in trials if "trial" in t.user_attrs]


def count_by_state(study: Any) -> dict[str, int]:
    return dict(Counter(trial.state.name.lower() for trial in study.get_trials(deepcopy=False)))


def _check_ours(path: Path) -> None:
    """Our record stands before the first trial; heretic-llm gives its studies the same name and place, without one.

    Raises:
        StudyError: there are trials without a record.
    """
    study = _open_optuna(path, missing_ok=True) if path.exists() else None
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


def _open_optuna(path: Path, missing_ok: bool = False) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = make_storage(path)
    try:
        return optuna.load_study(storage=storage, study_name=NAME)
    except KeyError as error:
        if missing_ok:
            return None
        raise StudyError(f"{path} holds no study of this program. Name another file.") from error


def _read_record(study: Any, path: Path) -> StudyRecord:
    from pydantic import ValidationError

    if RECORD not in study.user_attrs:
        raise StudyError(f"{path} has no record of a model: its run ended before the first trial. Start it again.")
    try:
        return StudyRecord.model_validate(study.user_attrs[RECORD])
    except ValidationError as error:
        raise StudyError(
            f"{path} was written by another version of this program ({error.error_count()} fields differ). "
            "Use that version, or start afresh with --resume restart."
        ) from error
