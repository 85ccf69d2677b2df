"""The menu after a search: its front is shown and evaluated on held-out prompts, then the user's choices are done."""

from collections.abc import Callable
from pathlib import Path

from ..config import ExportName
from ..errors import BenchmarkError, ConfigError, ExportError
from ..events import Action, Chooser, Reporter
from ..export.formats.registry import find_format
from ..report.tables import show_benchmarks
from ..session.context import LoadedStudy, RunningStudy
from ..session.save import ExportTarget, save_trial
from ..study.pareto import knee, pareto_front
from ..study.reader import RecordedStudy
from ..study.study import Study
from .benchmark import run_benchmarks
from .chat import chat
from .compare import compare
from .report import measure_residuals, write_report
from .upload import check_upload, upload_directory

Written = set[tuple[int, ExportName, Path]]
"""Exports of this run, by trial, format and directory: an upload does not write them again."""


def run_menu(
    running: RunningStudy, chooser: Chooser, search: Callable[[int], bool], evaluate_front: Callable[[], None]
) -> int:
    """Does what `chooser` chooses until it is to leave; returns the program's status.

    `search` continues until the study has a number of trials, and returns whether it got there.
    """
    study, written = running.study, Written()
    show_front(study, running.reporter)
    _evaluate(evaluate_front, chooser, running.reporter)
    while True:
        action = chooser.next_action(pareto_front(study.trials, study.record.baseline), study.record.baseline)
        if action.kind == "leave":
            return 0
        if action.kind == "more":
            finished = search(study.n_finished() + action.n_trials)
            show_front(study, running.reporter)
            # Who stops a search wants the menu, not an evaluation that a second Ctrl+C would have to stop.
            if finished:
                _evaluate(evaluate_front, chooser, running.reporter)
        elif action.kind in ("save", "upload"):
            _export(running, action, written, may_fail=chooser.asks)
        elif action.kind == "benchmark":
            _benchmark(running.loaded, action)
        elif action.kind == "report":
            _report(running.loaded)
        else:
            _talk(running.loaded, action, chooser)


def show_front(study: Study, reporter: Reporter) -> None:
    """The front with its knee, and whether it lies on a bound of the search space."""
    baseline = study.record.baseline
    front = pareto_front(study.trials, baseline)
    if not front:
        return
    reporter.front(front, knee(front, baseline), baseline)
    bounds = study.space.on_bounds(trial.parameters for trial in front)
    if bounds:
        reporter.say(f"The front lies on bounds of the search space: {'; '.join(bounds)}.")


def _evaluate(evaluate_front: Callable[[], None], chooser: Chooser, reporter: Reporter) -> None:
    """Held-out evaluation; a person may stop it and choose without."""
    try:
        evaluate_front()
    except KeyboardInterrupt:
        if not chooser.asks:
            raise
        reporter.say("The measurement was stopped; the rest of it follows when the study is opened again.")


def _export(running: RunningStudy, action: Action, written: Written, may_fail: bool) -> None:
    """Writes and verifies, and uploads if asked to; where it `may_fail`, an error becomes a warning.

    Raises:
        ExportError: it can't be done.
    """
    try:
        _write(running, action, written)
    except ExportError as error:
        if not may_fail:
            raise
        running.reporter.warn(str(error))
    except KeyboardInterrupt:
        if not may_fail:
            raise
        running.reporter.warn("Stopped: nothing was left half written.")


def _write(running: RunningStudy, action: Action, written: Written) -> None:
    assert action.trial and action.export and action.output
    if action.repository is not None:
        check_upload(action.repository)
    target = ExportTarget(find_format(action.export), Path(action.output))
    key = (action.trial.number, action.export, target.output.absolute())
    if action.kind == "save" or key not in written or not target.output.is_dir():
        save_trial(running.loaded.session, action.trial, target, running.baseline)
        written.add(key)
    if action.repository is not None:
        upload_directory(target.output, action.repository, action.public, running.reporter)


def _talk(loaded: LoadedStudy, action: Action, chooser: Chooser) -> None:
    """A chat with the chosen trial, or a comparison of it with the baseline and other trials."""
    assert action.trial is not None
    if action.kind == "chat":
        chat(loaded, action.trial, chooser.chat)
    else:
        trials = [action.trial, *action.others]
        compare(loaded, trials, loaded.settings.max_response_length, chooser.compare)


def _benchmark(loaded: LoadedStudy, action: Action) -> None:
    """The chosen benchmarks on the baseline and the chosen trial; a warning where they can't run."""
    assert action.trial is not None
    reporter = loaded.session.reporter
    try:
        show_benchmarks(run_benchmarks(loaded, [action.trial], action.benchmarks), reporter)
    except BenchmarkError as error:
        reporter.warn(str(error))
    except KeyboardInterrupt:
        reporter.warn("Stopped: figures of the benchmarks that were done are kept.")


def _report(loaded: LoadedStudy) -> None:
    """The report of the study, beside it; a warning where it can't be written."""
    session, study = loaded.session, RecordedStudy(loaded.session.path)
    try:
        write_report(study, None, lambda: measure_residuals(session, loaded.engine, study.record), session.reporter)
    except ConfigError as error:
        session.reporter.warn(str(error))
    except KeyboardInterrupt:
        session.reporter.warn("Stopped: no report was written.")
