"""Optuna's study: created where there is none, in a journal or in a shared storage."""

import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import StudyError
from .journal import make_storage
from .reader import NAME, RECORD, open_optuna
from .shared import SharedStorage


def check_ours(path: Path) -> None:
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


def create_optuna(path: Path, objectives: Sequence[str]) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return _create(objectives, storage=make_storage(path), study_name=NAME)


def open_shared(shared: SharedStorage, objectives: Sequence[str]) -> Any:
    return shared.open(partial(_create, objectives))


def _create(objectives: Sequence[str], storage: Any, study_name: str) -> Any:
    import optuna

    study = optuna.create_study(
        storage=storage, study_name=study_name, load_if_exists=True, directions=["minimize"] * len(objectives)
    )
    if len(study.directions) == len(objectives):
        with warnings.catch_warnings():
            # Optuna calls metric names experimental at every start.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(list(objectives))
    return study
