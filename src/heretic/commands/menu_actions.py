"""What the menu of a running study offers beside writing a model: talking to candidates, benchmarks, a report."""

from pathlib import Path

from ..config import Settings
from ..engine.local import LocalEngine
from ..errors import BenchmarkError, ConfigError
from ..events import Action, Reporter
from ..search.measurer import Compile
from ..session.prompts import RunPrompts
from ..study.reader import RecordedStudy
from ..study.schema import StudyRecord


class Looking:
    """Ways to look at the candidates of a running study; none of them changes it or ends the program."""

    def __init__(
        self,
        engine: LocalEngine,
        record: StudyRecord,
        path: Path,
        prompts: RunPrompts,
        compiled: Compile,
        settings: Settings,
        reporter: Reporter,
    ) -> None:
        self._engine = engine
        self._record = record
        self._path = path
        self._prompts = prompts
        self._compiled = compiled
        self._settings = settings
        self._reporter = reporter

    def look(self, action: Action) -> None:
        """Does what the menu's entry says: `benchmark`, `report`, `chat` or `compare`."""
        if action.kind == "benchmark":
            self._benchmark(action)
        elif action.kind == "report":
            self._report()
        else:
            self._talk(action)

    def _talk(self, action: Action) -> None:
        """A chat with the chosen trial, or a comparison of it with the baseline and others."""
        import sys

        from ..ui.compare import Sides
        from .chat import chat_with
        from .compare import Comparison, run_comparison

        assert action.trial is not None
        if action.kind == "chat":
            chat_with(action.trial, self._compiled(action.trial.parameters), self._engine, self._settings)
            return
        trials = [action.trial, *action.others]
        edits = [{}, *(self._compiled(trial.parameters) for trial in trials)]
        comparison = Comparison(self._engine, edits, self._settings.max_response_length)
        run_comparison(comparison, trials, [], Sides(sys.stdout))

    def _benchmark(self, action: Action) -> None:
        """The chosen benchmarks on the chosen trial and the baseline; a warning if they can't be run."""
        from ..report.tables import show_benchmarks
        from .benchmark import Benchmarking

        assert action.trial is not None
        try:
            benchmarking = Benchmarking(self._engine, self._record, self._path, self._reporter)
            edited = [(action.trial, self._compiled(action.trial.parameters))]
            show_benchmarks(benchmarking.run(action.benchmarks, edited), self._reporter)
        except BenchmarkError as error:
            self._reporter.warn(str(error))
        except KeyboardInterrupt:
            self._reporter.warn("Stopped: figures of the benchmarks that were done are kept.")

    def _report(self) -> None:
        """The report of the study, beside it; a warning where it can't be made."""
        from .report import measure_residuals, write_report

        study = RecordedStudy(self._path)
        given = study, self._engine, self._prompts, self._settings, self._reporter
        try:
            write_report(study, None, lambda: measure_residuals(*given), self._reporter)
        except ConfigError as error:
            self._reporter.warn(str(error))
        except KeyboardInterrupt:
            self._reporter.warn("Stopped: no report was written.")
