"""The measured trials of a study, and their front, updated as trials are added."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .pareto import pareto_front
from .reader import complete_trial
from .schema import BaselineRecord, TrialRecord


@dataclass(slots=True)
class CompleteTrials:
    """Trials by number, and how many failed with a reason."""

    by_number: dict[int, TrialRecord] = field(default_factory=dict)
    n_failed: int = 0
    _front: list[TrialRecord] = field(default_factory=list)
    _new: list[TrialRecord] = field(default_factory=list)

    @classmethod
    def of(cls, study: Any, path: Path, failure: str, known: "CompleteTrials | None" = None) -> "CompleteTrials":
        """Those of Optuna's study; the ones that are `known` are not read again."""
        from optuna.trial import TrialState

        found = cls() if known is None else known
        trials = study.get_trials(deepcopy=False)
        for trial in trials:
            if trial.state == TrialState.COMPLETE and trial.number not in found.by_number:
                record = complete_trial(trial, path)
                if record is not None:
                    found.add(record)
        found.by_number = dict(sorted(found.by_number.items()))
        found.n_failed = sum(failure in trial.user_attrs for trial in trials)
        return found

    @property
    def records(self) -> list[TrialRecord]:
        return list(self.by_number.values())

    @property
    def n_finished(self) -> int:
        return len(self.by_number) + self.n_failed

    def add(self, record: TrialRecord) -> None:
        self.by_number[record.number] = record
        self._new.append(record)

    def front(self, baseline: BaselineRecord) -> list[TrialRecord]:
        """Front of the last front and the new trials: a dominated trial can't return to it."""
        if self._new:
            self._front = pareto_front([*self._front, *self._new], baseline)
            self._new = []
        return list(self._front)
