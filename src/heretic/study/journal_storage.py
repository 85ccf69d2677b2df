"""Optuna's storage over a journal, in which waiting and running trials are found without a look at all others."""

import copy
from typing import Any

from optuna.storages import JournalStorage


class IndexedJournal(JournalStorage):
    """Every request of a candidate looks for waiting trials: with 10,000 finished ones, that takes longer than drawing
    it. Finished trials stay finished, so each is looked at once."""

    def __init__(self, backend: Any) -> None:
        self._looked: dict[int, int] = {}
        self._unfinished: dict[int, list[int]] = {}
        super().__init__(backend)

    def get_all_trials(self, study_id: int, deepcopy: bool = True, states: Any = None) -> list[Any]:
        if states is None or any(each.is_finished() for each in states):
            return super().get_all_trials(study_id, deepcopy, states)
        with self._thread_lock:
            self._sync_with_backend()
            trials, numbers = self._replay_result._trials, self._replay_result._study_id_to_trial_ids[study_id]
            new = numbers[self._looked.get(study_id, 0) :]
            self._looked[study_id] = len(numbers)
            known = self._unfinished.get(study_id, [])
            unfinished = [each for each in (*known, *new) if not trials[each].state.is_finished()]
            self._unfinished[study_id] = unfinished
            found = [trials[each] for each in unfinished if trials[each].state in states]
        return copy.deepcopy(found) if deepcopy else found
