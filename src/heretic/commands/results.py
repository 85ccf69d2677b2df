"""A recorded study, read without a model."""

import json

from ..events import Reporter
from ..report.tables import show_figures
from ..session.heldout_sidecar import read_figures
from ..study import version1
from ..study.pareto import knee, pareto_front
from ..study.reader import RecordedStudy
from ..study.schema import BaselineRecord, TrialRecord


def results(study: RecordedStudy) -> dict[str, object]:
    """The front as JSON: `version`, `model`, `baseline`, `trials` by state, `front`, and `measured` at the end."""
    figures = read_figures(study.path)
    return {
        "version": 1,
        "model": study.record.model,
        "baseline": _baseline(study.baseline),
        "trials": study.count_by_state(),
        "front": [_trial(trial) for trial in pareto_front(study.trials, study.baseline)],
        "measured": None if figures is None else figures.model_dump(mode="json"),
    }


def _baseline(baseline: BaselineRecord) -> dict[str, object]:
    """The record, with the keys of version 1 for its readers."""
    content = baseline.model_dump(mode="json")
    return {**version1.baseline_keys(content["metrics"]), **content}


def _trial(trial: TrialRecord) -> dict[str, object]:
    """The record, with the keys of version 1 for its readers."""
    values = {name: metric.value for name, metric in trial.metrics.items()}
    return {**version1.trial_keys(values, trial.pruned), **trial.model_dump(mode="json")}


def print_results(study: RecordedStudy, as_json: bool, reporter: Reporter) -> None:
    if as_json:
        reporter.say(json.dumps(results(study), indent=2))
        return
    states = ", ".join(f"{count} {state}" for state, count in study.count_by_state().items())
    reporter.say(f"{study.record.model}: {states or 'no'} trials ({study.path})")
    front = pareto_front(study.trials, study.baseline)
    if front:
        reporter.front(front, knee(front, study.baseline), study.baseline)
    figures = read_figures(study.path)
    if figures is not None:
        show_figures(figures, reporter)
