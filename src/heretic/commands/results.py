"""The results of a recorded study, which need no model."""

from dataclasses import dataclass

from ..evaluation.heldout.schema import HeldoutReport
from ..session.sidecars import read_heldout_report
from ..study import version1
from ..study.pareto import knee, pareto_front
from ..study.reader import RecordedStudy
from ..study.schema import BaselineRecord, TrialRecord


@dataclass(frozen=True, slots=True)
class Results:
    """A study's trials by state, its Pareto front, the knee of it (`best`), and its held-out evaluation if any."""

    study: RecordedStudy
    states: dict[str, int]
    front: list[TrialRecord]
    best: TrialRecord | None
    heldout: HeldoutReport | None

    def plain(self) -> dict[str, object]:
        """For JSON: `version`, `model`, `baseline`, `trials` by state, `front`, and `measured` on held-out prompts."""
        return {
            "version": 1,
            "model": self.study.record.model,
            "baseline": _baseline(self.study.baseline),
            "trials": self.states,
            "front": [_trial(trial) for trial in self.front],
            "measured": None if self.heldout is None else self.heldout.model_dump(mode="json"),
        }


def results(study: RecordedStudy) -> Results:
    """The results of a study so far."""
    front = pareto_front(study.trials, study.baseline)
    best = knee(front, study.baseline) if front else None
    return Results(study, study.count_by_state(), front, best, read_heldout_report(study.path))


def _baseline(baseline: BaselineRecord) -> dict[str, object]:
    """The record with the keys of version 1 added, for programs that read that version."""
    content = baseline.model_dump(mode="json")
    return {**version1.baseline_keys(content["metrics"]), **content}


def _trial(trial: TrialRecord) -> dict[str, object]:
    """The record with the keys of version 1 added, for programs that read that version."""
    values = {name: metric.value for name, metric in trial.metrics.items()}
    return {**version1.trial_keys(values, trial.pruned), **trial.model_dump(mode="json")}
