"""What the menu of a running study offers beside writing a model: talking to candidates, benchmarks, a report."""

from pathlib import Path

from ..config import EvaluationSettings, Settings
from ..engine.local import LocalEngine
from ..errors import BenchmarkError, ConfigError
from ..study.recorded import RecordedStudy
from ..study.records import StudyRecord
from ..ui.events import Action, Reporter
from .measuring import Compile
from .prompts import RunPrompts


def talk_to(action: Action, compiled: Compile, engine: LocalEngine, settings: EvaluationSettings) -> None:
    """A chat with the chosen trial, or a comparison of it with the model itself and others."""
    import sys

    from ..ui.compare import Sides
    from .chatting import chat_with
    from .comparing import Comparison, run_comparison

    assert action.trial is not None
    if action.kind == "chat":
        chat_with(action.trial, compiled(action.trial.parameters), engine, settings)
        return
    trials = [action.trial, *action.others]
    edits = [{}, *(compiled(trial.parameters) for trial in trials)]
    run_comparison(Comparison(engine, edits, settings.max_response_length), trials, [], Sides(sys.stdout))


def benchmark_chosen(
    action: Action, compiled: Compile, engine: LocalEngine, record: StudyRecord, path: Path, reporter: Reporter
) -> None:
    """The chosen benchmarks on the chosen trial and the model itself; a warning where they can't be run."""
    from ..ui.benchmarks import show_benchmarks
    from .benchmarking import Benchmarking

    assert action.trial is not None
    try:
        benchmarking = Benchmarking(engine, record, path, reporter)
        show_benchmarks(
            benchmarking.run(action.benchmarks, [(action.trial, compiled(action.trial.parameters))]), reporter
        )
    except BenchmarkError as error:
        reporter.warn(str(error))
    except KeyboardInterrupt:
        reporter.warn("Stopped: figures of the benchmarks that were done are kept.")


def report_written(
    engine: LocalEngine, prompts: RunPrompts, path: Path, settings: Settings, reporter: Reporter
) -> None:
    """The report of the study at `path`, beside it; a warning where it can't be made."""
    from .documenting import measure_residuals, write_report

    study = RecordedStudy(path)
    try:
        write_report(study, None, lambda: measure_residuals(study, engine, prompts, settings, reporter), reporter)
    except ConfigError as error:
        reporter.warn(str(error))
    except KeyboardInterrupt:
        reporter.warn("Stopped: no report was written.")
