"""Unfinished trials are found by an index, and are those of Optuna's storage."""

from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.trial import TrialState

from heretic.study.journal import make_storage
from heretic.study.journal_storage import IndexedJournal

UNFINISHED = [(TrialState.WAITING,), (TrialState.RUNNING,), (TrialState.WAITING, TrialState.RUNNING)]


def test_unfinished_trials_are_those_of_optuna(tmp_path: Path) -> None:
    storage = make_storage(tmp_path / "s.jsonl")
    study = optuna.create_study(storage=storage)
    number = study._study_id

    def check() -> None:
        for states in [*UNFINISHED, (TrialState.COMPLETE,), None]:
            found: Any = [storage.get_all_trials(number, False, states) for _ in range(2)]
            found.append(JournalStorage.get_all_trials(storage, number, False, states))
            assert found[0] == found[1] == found[2]

    check()
    study.enqueue_trial({"x": 0.5})
    asked = [study.ask() for _ in range(3)]
    check()
    study.tell(asked[1], 1.0)
    study.tell(asked[2], state=TrialState.FAIL)
    study.enqueue_trial({"x": 0.7})
    check()
    # Finished trials are not looked at again.
    assert storage._unfinished[number] == [0, 3]
    assert [each.number for each in make_storage(tmp_path / "s.jsonl").get_all_trials(0, True, UNFINISHED[2])] == [0, 3]
    assert isinstance(storage, IndexedJournal)
