"""A recorded study, read without a model."""

import json

from ..events import Reporter
from ..report.tables import show_figures
from ..session.heldout_sidecar import read_figures
from ..study.pareto import knee, pareto_front
from ..study.reader import RecordedStudy


def results(study: RecordedStudy) -> dict[str, object]:
    """The front as JSON: `version`, `model`, `baseline`, `trials` by state, `front`, and `measured` at the end."""
    figures = read_figures(study.path)
    return {
        "version": 1,
        "model": study.record.model,
        "baseline": study.baseline.model_dump(),
        "trials": study.count_by_state(),
        "front": [trial.model_dump(mode="json") for trial in pareto_front(study.trials, study.baseline)],
        "measured": None if figures is None else figures.model_dump(mode="json"),
    }


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
