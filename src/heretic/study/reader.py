"""A study's journal, read only."""

from collections import Counter
from pathlib import Path
from typing import Any

from ..errors import StudyError
from .journal import make_storage
from .schema import BaselineRecord, RunRecord, StudyRecord, TrialRecord

RECORD = "heretic"
RUNS = "heretic runs"
NAME = "heretic"


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
    study = open_optuna(path, missing_ok=True)
    return study is not None and RECORD in study.user_attrs


def complete_trials(study: Any) -> list[TrialRecord]:
    """Every trial whose metrics were recorded."""
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [TrialRecord.model_validate(t.user_attrs["trial"]) for t in trials if "trial" in t.user_attrs]


def count_by_state(study: Any) -> dict[str, int]:
    return dict(Counter(trial.state.name.lower() for trial in study.get_trials(deepcopy=False)))


def open_optuna(path: Path, missing_ok: bool = False) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = make_storage(path)
    try:
        return optuna.load_study(storage=storage, study_name=NAME)
    except KeyError as error:
        if missing_ok:
            return None
        raise StudyError(f"{path} holds no study of this program. Name another file.") from error


def read_record(study: Any, path: Path) -> StudyRecord:
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
