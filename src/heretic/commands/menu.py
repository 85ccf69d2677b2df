"""The menu after a search: shows the front, evaluates it on held-out prompts, and carries out the user's choices."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..config import ExportName
from ..errors import UserError, system_paragraph
from ..events import Action, Chooser, FormatChoice, Reporter
from ..export.formats.registry import find_format
from ..report.tables import show_benchmarks
from ..search.cluster.open import with_weights
from ..session.context import LoadedStudy, RunningStudy
from ..session.save import ExportTarget, formats_for, normalization_of, save_trial
from ..study.pareto import knee, pareto_front
from ..study.reader import RecordedStudy
from ..study.study import Study
from .benchmark import run_benchmarks
from .chat import chat
from .compare import compare
from .next_steps import say_ending
from .report import measure_residuals, write_report
from .upload import check_upload, upload_directory

Written = list[tuple[int, ExportName, Path]]
"""Exports of this run, by trial, format and directory: an upload does not write them again."""

STOPPED = {
    "save": "Stopped: no incomplete file is left.",
    "upload": "Stopped: no incomplete file is left.",
    "benchmark": "Stopped: results of finished benchmarks are kept.",
    "report": "Stopped: no report was written.",
}
"""What Ctrl+C leaves, by the kind of action."""


def run_menu(
    running: RunningStudy, chooser: Chooser, search: Callable[[int], bool], evaluate_front: Callable[[], None]
) -> int:
    """Carries out the actions of `chooser` until it leaves; returns the exit status.

    `search` continues until the study has a number of trials; it returns False after Ctrl+C.
    """
    study, written = running.study, Written()
    if chooser.asks:
        chooser.offer(_choices(running))
    show_front(study, running.reporter)
    _evaluate(evaluate_front, chooser, running.reporter)
    while True:
        action = chooser.next_action(pareto_front(study.trials, study.record.baseline), study.record.baseline)
        if action.kind == "leave":
            say_ending(running, written, chooser.asks)
            return 0
        if action.kind == "more":
            finished = search(study.n_finished() + action.n_trials)
            show_front(study, running.reporter)
            # A user who stops a search wants the menu, not an evaluation that a second Ctrl+C would have to stop.
            if finished:
                _evaluate(evaluate_front, chooser, running.reporter)
        else:
            with _may_fail(running.reporter, chooser.asks, STOPPED.get(action.kind, "Stopped.")):
                _carry_out(running, action, written, chooser)


def _carry_out(running: RunningStudy, action: Action, written: Written, chooser: Chooser) -> None:
    """Does with a trial what was chosen."""
    if action.kind in ("save", "upload"):
        _export(running, action, written)
    elif action.kind == "benchmark":
        assert action.trial is not None
        results = run_benchmarks(running.loaded, [action.trial], action.benchmarks)
        show_benchmarks(results, running.reporter)
    elif action.kind == "report":
        _report(running.loaded)
    else:
        with with_weights(running.loaded) as loaded:
            _talk(loaded, action, chooser)


@contextmanager
def _may_fail(reporter: Reporter, asks: bool, stopped: str) -> Iterator[None]:
    """Where a user is asked and may choose again, an error of the `with` block is a warning, and so is Ctrl+C."""
    try:
        yield
    except UserError as error:
        if not asks:
            raise
        reporter.warn(str(error))
    except OSError as error:
        paragraph = system_paragraph(error)
        if not asks or paragraph is None:
            raise
        reporter.warn(paragraph)
    except KeyboardInterrupt:
        if not asks:
            raise
        reporter.warn(stopped)


def _choices(running: RunningStudy) -> list[FormatChoice]:
    session = running.loaded.session
    sites, normalization = running.loaded.engine.sites, normalization_of(session.settings)
    formats = formats_for(session.checkpoint, sites, normalization)
    return [FormatChoice(form.name, form.label, form.suffix) for form in formats]


def show_front(study: Study, reporter: Reporter) -> None:
    """Shows the front with its knee, and the bounds of the search space that it lies on."""
    baseline = study.record.baseline
    front = pareto_front(study.trials, baseline)
    if not front:
        return
    reporter.front(front, knee(front, baseline), baseline)
    bounds = study.space.on_bounds(trial.parameters for trial in front)
    if bounds:
        reporter.say(
            f"Trials of the front lie on bounds of the search space ({'; '.join(bounds)}): more trials may find a "
            "little more."
        )


def _evaluate(evaluate_front: Callable[[], None], chooser: Chooser, reporter: Reporter) -> None:
    """Evaluates the front on held-out prompts; a user may stop it and go on to the menu."""
    try:
        evaluate_front()
    except KeyboardInterrupt:
        if not chooser.asks:
            raise
        reporter.say("Held-out evaluation was stopped; it continues when the study is opened again.")


def _export(running: RunningStudy, action: Action, written: Written) -> None:
    """Exports a trial, and uploads it if asked to."""
    assert action.trial and action.export and action.output
    if action.repository is not None:
        check_upload(action.repository)
    target = ExportTarget(find_format(action.export), Path(action.output))
    key = (action.trial.number, action.export, target.output)
    if action.kind == "save" or key not in written or not target.output.is_dir():
        save_trial(running.loaded.session, action.trial, target, running.baseline)
        written.append(key)
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


def _report(loaded: LoadedStudy) -> None:
    """Writes the report of the study next to its journal."""
    session, study = loaded.session, RecordedStudy(loaded.session.path)
    write_report(study, None, lambda: measure_residuals(session, loaded.engine, study.record), session.reporter)
