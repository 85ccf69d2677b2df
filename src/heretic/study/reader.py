"""A study's journal, read only."""

from collections import Counter
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ..errors import StudyError
from .journal import make_storage
from .schema import BaselineRecord, RunRecord, StudyRecord, TrialRecord

RECORD = "heretic"
RUNS = "heretic runs"
NAME = "heretic"
Kind = TypeVar("Kind", bound=BaseModel)


class RecordedStudy:
    """A study's journal, read only: safe while a search is running."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise StudyError(
                f"No study at {path}. Give the .jsonl file of a study, or the name of a model it was run on."
            )
        self.path = path
        self._study = open_optuna(path)
        self.record = read_record(self._study, path)

    @property
    def baseline(self) -> BaselineRecord:
        return self.record.baseline

    @property
    def trials(self) -> list[TrialRecord]:
        """Complete trials, in their order.

        Raises:
            StudyError: the record of one is damaged.
        """
        trials = complete_trials(self._study, self.path)
        for trial in trials:
            lacking = self.record.baseline.metrics.keys() - trial.metrics.keys()
            if lacking:
                raise StudyError(
                    f"Expected {', '.join(sorted(lacking))} in trial {trial.number} of {self.path}, which the baseline "
                    "has. The file was changed since: restore it from a copy."
                )
        return trials

    @property
    def runs(self) -> list[RunRecord]:
        """The starts of the program that made the trials; none in studies from before they were recorded."""
        attributes = self._study.user_attrs
        runs = attributes.get(RUNS, [])
        # Runs that shared a study have a key each.
        shared = [attributes[key] for key in sorted(attributes) if key.startswith(f"{RUNS} ")]
        every = [*(runs if isinstance(runs, list) else [runs]), *shared]
        return [_validated(RunRecord, run, self.path) for run in every]

    @property
    def last_run(self) -> RunRecord | None:
        runs = self.runs
        return runs[-1] if runs else None

    @property
    def optuna(self) -> Any:
        """Optuna's own study, read only."""
        return self._study

    def count_by_state(self) -> dict[str, int]:
        return count_by_state(self._study)


def has_record(path: Path) -> bool:
    """Whether the journal has a study's record: a kill may leave a journal without one."""
    if not path.exists() or path.stat().st_size == 0:
        return False
    study = open_optuna(path, missing_ok=True)
    return study is not None and RECORD in study.user_attrs


def complete_trials(study: Any, path: Path) -> list[TrialRecord]:
    """Every trial whose metrics were recorded.

    Raises:
        StudyError: a record of one is damaged.
    """
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    found = (complete_trial(trial, path) for trial in trials)
    return [trial for trial in found if trial is not None]


def complete_trial(trial: Any, path: Path) -> TrialRecord | None:
    """The record of one of Optuna's complete trials; None where there is none.

    Raises:
        StudyError: it is damaged.
    """
    return _validated(TrialRecord, trial.user_attrs["trial"], path) if "trial" in trial.user_attrs else None


def count_by_state(study: Any) -> dict[str, int]:
    return dict(Counter(trial.state.name.lower() for trial in study.get_trials(deepcopy=False)))


def open_optuna(path: Path, missing_ok: bool = False) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = make_storage(path)
    try:
        study = optuna.load_study(storage=storage, study_name=NAME)
        # Read here, where errors of a damaged file are handled.
        study.get_trials(deepcopy=False)
        return study
    except KeyError as error:
        if missing_ok:
            return None
        raise StudyError(f"{path} holds no study of this program. Name another file.") from error


def read_record(study: Any, path: Path) -> StudyRecord:
    if RECORD not in study.user_attrs:
        raise StudyError(f"{path} has no record of a model: its run ended before the first trial. Start it again.")
    return _validated(StudyRecord, study.user_attrs[RECORD], path)


def _validated(kind: type[Kind], content: Any, path: Path) -> Kind:
    """A record of the journal.

    Raises:
        StudyError: it is damaged, or has fields of another version.
    """
    try:
        return kind.model_validate(content)
    # A file that was edited by hand may make a validator of an older version raise any error.
    except (ValidationError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        fault = f"{error.error_count()} fields differ" if isinstance(error, ValidationError) else repr(error)[:80]
        raise StudyError(
            f"{path} was written by another version of this program, or changed since ({kind.__name__}: {fault}). Use "
            "that version, restore the file from a copy, or begin a new study with --resume restart."
        ) from error
