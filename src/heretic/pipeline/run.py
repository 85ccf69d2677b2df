"""The main job: from a model's name to a chosen trial on disk."""

from collections.abc import Callable, Mapping
from pathlib import Path

from ..ablation.compile import compile_edit
from ..ablation.edit import ModelEdit
from ..ablation.parameters import AblationParameters
from ..ablation.sites import components_of
from ..ablation.weight_stats import WeightStats
from ..config import Settings
from ..engine.local import LocalEngine
from ..errors import CandidateError, ConfigError, ModelError
from ..evaluation.evaluator import Baseline, Evaluator
from ..evaluation.report_part import ReportPart
from ..export.directory import check_output
from ..model.checkpoint import Checkpoint, find_checkpoint
from ..study.identity import check_same
from ..study.journal import SingleWriter, repair, set_aside, study_path, tensors_path
from ..study.pareto import knee, pareto_front
from ..study.recorded import RecordedStudy, has_record
from ..study.space import SearchSpace
from ..study.study import Study
from ..ui.events import Action, Chooser, Reporter
from .beginning import Prescribed, first_candidates
from .choosing import benchmark_chosen, report_written, talk_to
from .directions import StudyTensors, fit_tensors, read_tensors
from .exporting import Exporter
from .front import FrontMeasurement
from .measuring import Compile, InProcess
from .opened import known_of, model_stats
from .prompts import RunPrompts, load_report_part, load_run_prompts
from .records import identity, recorded_baseline, run_record, study_record
from .reporting import ResidualReport, check_plots
from .saving import Verification, check_export
from .search import Search
from .session import Measured, measured, open_engine, require_declining
from .showing import counting_evaluator
from .telling import find_telling, telling_prompts
from .trust import settle_trust
from .tuning import Tuning
from .uploading import check_upload
from .workers import workers

INTERRUPTED = 130


def run(settings: Settings, chooser: Chooser, reporter: Reporter, prescribed: Prescribed | None = None) -> int:
    """Finds directions, searches (or measures what is `prescribed`), lets `chooser` choose, saves; returns the status.

    Raises:
        UserError: something is not as it must be; what was recorded stays.
    """
    if settings.model is None:
        raise ConfigError("Expected a model, got none. Name a directory, a .gguf file or a hub id: heretic MODEL.")
    if settings.output is not None:
        check_output(settings.output)
    if settings.upload is not None:
        check_upload(settings.upload)
    check_plots(settings)
    path = study_path(settings.study_checkpoint_dir, settings.model)
    # Held before anything is mended: what looks unfinished may be what another program is writing.
    with SingleWriter(path) as writer:
        wanted, searching = _settle_existing(path, settings, chooser, reporter)
        prompts = load_run_prompts(settings)
        part = load_report_part(settings, prompts)
        if part is None and settings.report_candidates:
            reporter.say("Nothing is measured at the end: good_report_prompts and bad_report_prompts are not given.")
        checkpoint = find_checkpoint(settings.model, settings.model_commit)
        check_export(settings, checkpoint)
        settings = settle_trust(settings, checkpoint, reporter)
        return _Job(settings, path, writer, prompts, part, checkpoint, chooser, reporter, prescribed).run(
            wanted, searching
        )


def _settle_existing(path: Path, settings: Settings, chooser: Chooser, reporter: Reporter) -> tuple[int, bool]:
    """What becomes of a study that is there already: (number of trials to reach, whether to search at once)."""
    if not path.exists():
        return settings.n_trials, True
    cut = repair(path) if settings.resume != "restart" else 0
    if cut:
        reporter.warn(f"The last line of {path} was unfinished, as after a kill; its {cut} bytes were cut off.")
    if settings.resume == "restart":
        reporter.say(f"The study that was there is kept as {set_aside(path)}.")
        return settings.n_trials, True
    if not has_record(path):
        return settings.n_trials, True
    finished = len(RecordedStudy(path).trials)
    choice = chooser.resume(finished, settings.n_trials, str(path))
    if choice == "restart":
        reporter.say(f"The study that was there is kept as {set_aside(path)}.")
        return settings.n_trials, True
    if choice == "continue":
        reporter.say(f"Resuming {path}: {finished} of {settings.n_trials} trials are done.")
    return settings.n_trials, choice == "continue"


class _Job:
    """One run of the main job; holds what its stages hand on."""

    def __init__(
        self,
        settings: Settings,
        path: Path,
        writer: SingleWriter,
        prompts: RunPrompts,
        part: ReportPart | None,
        checkpoint: Checkpoint,
        chooser: Chooser,
        reporter: Reporter,
        prescribed: Prescribed | None,
    ) -> None:
        self.settings = settings
        self.path = path
        self.writer = writer
        self.prompts = prompts
        self.part = part
        self.checkpoint = checkpoint
        self.chooser = chooser
        self.reporter = reporter
        self.prescribed = prescribed
        self.noted = False
        self.known = self._recorded_measures()

    def run(self, wanted: int, searching: bool) -> int:
        engine = open_engine(self.checkpoint, self.settings, self.prompts.all(), self.known, self.reporter)
        self.known = measured(engine)
        measurement = FrontMeasurement(engine, self.part, self.settings, self.path, self.reporter)
        if self.prescribed is not None:
            measurement.measure_these(self.prescribed.measured)
        space = SearchSpace(components_of(engine.sites), len(engine.loaded.layers) - 1)
        with Study(self.path, space, self.writer, objectives=3 if self.prompts.over else 2) as study:
            tensors, baseline = self._begin_or_resume(engine, study, space)
            stats = model_stats(engine, tensors, self.checkpoint, self.settings, self.reporter)
            study.use_sampler(
                self.settings.sampler,
                self.settings.seed,
                min(self.settings.n_startup_trials, wanted),
                self.settings.n_ei_candidates,
            )
            returned = study.take_back_running()
            if returned:
                self.reporter.say(f"{returned} trials were running when the program ended: they run again.")
            evaluator = self._evaluator(engine)
            compiled = _compiler(engine, tensors, stats, self.settings)

            def search(n_trials: int) -> bool:
                count, alone = self._measurers(engine, evaluator, baseline, compiled)
                self._note(study, count, alone.ahead)
                with workers(count, alone) as measurer:
                    first = self._first(study, space)
                    return Search(study, measurer, evaluator, baseline, self.settings, first).run(
                        n_trials, self.reporter
                    )

            if searching and not search(wanted):
                self._show_front(study)
                self.reporter.say(f"Stopped. Start it again to go on, or look at it with: heretic results {self.path}")
                return INTERRUPTED

            verification = Verification(self.prompts, baseline, self.known)
            exporter = Exporter(study, tensors, verification, self.settings, self.reporter)

            def look(action: Action) -> None:
                if action.kind == "benchmark":
                    benchmark_chosen(action, compiled, engine, study.record, self.path, self.reporter)
                elif action.kind == "report":
                    report_written(engine, self.prompts, self.path, self.settings, self.reporter)
                else:
                    talk_to(action, compiled, engine, self.settings)

            def measure() -> None:
                self._measure(measurement, study, compiled)

            return self._finish(study, search, exporter, look, measure)

    def _note(self, study: Study, workers: int, candidates: int) -> None:
        """This start of the program, once, with what is measured at once: the order of asking hangs on it."""
        if not self.noted:
            self.noted = True
            settings = self.settings.model_copy(update={"workers": workers, "candidates": candidates})
            study.note_run(run_record(settings))

    def _recorded_measures(self) -> Measured | None:
        if not has_record(self.path):
            return None
        return known_of(RecordedStudy(self.path).record)

    def _evaluator(self, engine: LocalEngine) -> Evaluator:
        return counting_evaluator(engine, self.settings, self.prompts, "the model itself", self.reporter)

    def _begin_or_resume(self, engine: LocalEngine, study: Study, space: SearchSpace) -> tuple[StudyTensors, Baseline]:
        evaluator = self._evaluator(engine)
        report = ResidualReport(self.settings, self.path.stem.lstrip("-"), self.reporter)
        if has_record(self.path):
            check_same(study.record, identity(engine, self.prompts, self.settings, space), self.path)
            recorded = study.record.baseline
            with self.reporter.step("Baseline", len(self.prompts.good_evaluation)) as progress:
                baseline = recorded_baseline(recorded, evaluator, progress)
            tensors = read_tensors(tensors_path(self.path))
            report.measure_and_show(engine, telling_prompts(self.prompts, study.record.telling), tensors.directions)
            return tensors, baseline
        keep = report.keep if report.wanted else None
        telling = None
        if self.settings.only_telling_prompts:
            telling = find_telling(engine, self.prompts, self.settings, self.reporter)
        prompts = telling_prompts(self.prompts, telling)
        tensors = fit_tensors(engine, prompts, self.settings, self.reporter, keep)
        report.show(tensors.directions)
        with self.reporter.step("Baseline", evaluator.rows_a_candidate) as progress:
            try:
                baseline = evaluator.baseline(progress)
            except CandidateError as error:
                raise ModelError(f"The model itself can't be measured: {error}. Try another dtype (dtypes).") from error
        self.reporter.say(f"The model itself declines {baseline.refusals} of {baseline.prompts} bad prompts.")
        if baseline.over_refusals is not None:
            harmless = f"{baseline.over_refusals} of {baseline.over_prompts} harmless ones that look harmful"
            self.reporter.say(f"It declines {harmless}: their number is the third objective.")
        require_declining(baseline.refusals, baseline.prompts)
        tensors.write(tensors_path(self.path))
        study.begin(study_record(engine, self.prompts, self.settings, space, baseline, telling))
        for parameters in self.prescribed.candidates if self.prescribed else ():
            study.enqueue(parameters)
        return tensors, baseline

    def _first(self, study: Study, space: SearchSpace) -> list[AblationParameters]:
        """What a study begins with, as far as it does not hold it yet."""
        if self.prescribed is not None:
            return []
        return [each for each in first_candidates(space, self.settings) if not study.holds(each)]

    def _measurers(
        self, engine: LocalEngine, evaluator: Evaluator, baseline: Baseline, compiled: Compile
    ) -> tuple[int, InProcess]:
        """How many processes measure candidates, and what each of them does."""
        tuning = Tuning(engine, self.settings, self.reporter)
        bad = self.prompts.bad_evaluation.prompts
        count = tuning.workers(bad, baseline.log_probabilities.shape[-1])
        candidates = tuning.candidates(bad) if count == 1 else 1
        if count > 1:
            self.reporter.say(f"{count} candidates are measured at once, each by a process of its own.")
        elif candidates > 1:
            self.reporter.say(f"{candidates} candidates are measured at once, in the same forwards.")
        return count, InProcess(evaluator, baseline, compiled, candidates)

    def _show_front(self, study: Study) -> None:
        front = pareto_front(study.trials)
        if front:
            baseline = study.record.baseline
            self.reporter.front(front, knee(front, baseline), baseline)
            bounds = study.space.on_bounds(trial.parameters for trial in front)
            if bounds:
                self.reporter.say(f"The front lies on bounds of the search space: {'; '.join(bounds)}.")

    def _finish(
        self,
        study: Study,
        search: Callable[[int], bool],
        exporter: Exporter,
        look: Callable[[Action], None],
        measure: Callable[[], None],
    ) -> int:
        """Shows the front, measures it and does what is chosen, until it is to leave."""
        self._show_front(study)
        measure()
        while True:
            action = self.chooser.next_action(pareto_front(study.trials), study.record.baseline)
            if action.kind == "more":
                whole = search(study.n_finished() + action.n_trials)
                self._show_front(study)
                # Who stops a search wants the menu, not the measurement that another Ctrl+C would have to stop.
                if whole:
                    measure()
            elif action.kind in ("save", "upload"):
                exporter.run(action, may_fail=self.chooser.asks)
            elif action.kind == "leave":
                return 0
            else:
                look(action)

    def _measure(self, measurement: FrontMeasurement, study: Study, compiled: Compile) -> None:
        """The measurement at the end; a person may stop it and choose without."""
        try:
            measurement.run(study, compiled)
        except KeyboardInterrupt:
            if not self.chooser.asks:
                raise
            self.reporter.say("The measurement was stopped; the rest of it follows when the study is opened again.")


def _compiler(
    engine: LocalEngine, tensors: StudyTensors, stats: Mapping[str, WeightStats], settings: Settings
) -> Callable[[AblationParameters], ModelEdit]:
    def compiled(parameters: AblationParameters) -> ModelEdit:
        return compile_edit(parameters, tensors.directions, engine.sites, stats, settings.row_normalization)

    return compiled
