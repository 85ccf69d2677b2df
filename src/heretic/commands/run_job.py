"""One run of the main job: the model is opened, its study begun or opened, searched, and its end handed on."""

from pathlib import Path

from ..ablation.edit import ModelEdit
from ..ablation.methods.compile import compile_candidate
from ..ablation.methods.registry import find_method
from ..ablation.methods.tensors import StudyTensors
from ..ablation.parameters import AblationParameters
from ..ablation.sites import components_of
from ..config import Settings
from ..engine.local import LocalEngine
from ..evaluation.evaluator import Baseline, Evaluator
from ..evaluation.heldout.evaluate import HeldoutPrompts
from ..evaluation.pruning.statistics import PruningStatistics
from ..evaluation.scorers.kl import vocabulary_size
from ..evaluation.scorers.registry import objective_names
from ..events import Chooser, Reporter
from ..model.loading.checkpoint import Checkpoint
from ..search.loop import Search
from ..search.measurer import Compile, InProcessMeasurer
from ..search.process_pool import workers
from ..session.autotune import at_once
from ..session.engine import measured, open_engine
from ..session.heldout import FrontMeasurement
from ..session.prompts import RunPrompts
from ..session.recorded import model_stats, runtime_of
from ..session.records import run_record
from ..session.response_log import counting_evaluator
from ..session.save import Verification
from ..session.start import Beginning, FixedCandidates, first_candidates
from ..study.journal import SingleWriter
from ..study.reader import RecordedStudy, has_record
from ..study.schema import BASELINE
from ..study.study import Study
from .menu import Ending, show_front
from .menu_actions import Looking
from .menu_export import Exporter

INTERRUPTED = 130


class Job:
    """One run of the main job; holds what its stages share."""

    def __init__(
        self,
        settings: Settings,
        path: Path,
        prompts: RunPrompts,
        part: HeldoutPrompts | None,
        checkpoint: Checkpoint,
        chooser: Chooser,
        reporter: Reporter,
        prescribed: FixedCandidates | None,
    ) -> None:
        self.settings = settings
        self.path = path
        self.prompts = prompts
        self.part = part
        self.checkpoint = checkpoint
        self.chooser = chooser
        self.reporter = reporter
        self.prescribed = prescribed
        self.noted = False
        self.statistics: PruningStatistics | None = None

    def run(self, writer: SingleWriter, searching: bool) -> int:
        """The whole of it, the search left out unless `searching`; returns the program's status."""
        known = runtime_of(RecordedStudy(self.path).record) if has_record(self.path) else None
        engine = open_engine(self.checkpoint, self.settings, self.prompts.all(), known, self.reporter)
        # As the baseline is measured: a search may make batches larger.
        known = measured(engine)
        measurement = FrontMeasurement(engine, self.part, self.settings, self.path, self.reporter)
        if self.prescribed is not None:
            measurement.measure_these(self.prescribed.measured)
        space = find_method(self.settings.method).space(components_of(engine.sites), len(engine.loaded.layers) - 1)
        evaluator = counting_evaluator(engine, self.settings, self.prompts, f"the {BASELINE}", self.reporter)
        with Study(self.path, space, writer, objective_names(evaluator.scorers)) as study:
            beginning = Beginning(engine, evaluator, study, self.prompts, self.settings, self.path, self.reporter)
            tensors, baseline = beginning.begin_or_resume(self.prescribed)
            self._settle_sampler(study)
            compiled = self._compiler(engine, tensors)

            def search(n_trials: int) -> bool:
                return self._search(engine, study, evaluator, baseline, compiled, n_trials)

            if searching and not search(self.settings.n_trials):
                show_front(study, self.reporter)
                self.reporter.say(f"Stopped. Start it again to go on, or look at it with: heretic results {self.path}")
                return INTERRUPTED

            verification = Verification(self.prompts, baseline, known)
            exporter = Exporter(study, tensors, verification, self.settings, self.reporter)
            looking = Looking(engine, study.record, self.path, self.prompts, compiled, self.settings, self.reporter)
            ending = Ending(study, measurement, compiled, exporter, looking, self.chooser, self.reporter)
            return ending.run(search)

    def _settle_sampler(self, study: Study) -> None:
        settings = self.settings
        n_startup_trials = min(settings.n_startup_trials, settings.n_trials)
        study.use_sampler(settings.sampler, settings.seed, n_startup_trials, settings.n_ei_candidates)
        returned = study.take_back_running()
        if returned:
            self.reporter.say(f"{returned} trials were running when the program ended: they run again.")

    def _compiler(self, engine: LocalEngine, tensors: StudyTensors) -> Compile:
        stats = model_stats(engine, tensors, self.checkpoint, self.settings, self.reporter)

        def compiled(parameters: AblationParameters) -> ModelEdit:
            return compile_candidate(parameters, tensors, engine.sites, stats, self.settings.row_normalization)

        return compiled

    def _search(
        self,
        engine: LocalEngine,
        study: Study,
        evaluator: Evaluator,
        baseline: Baseline,
        compiled: Compile,
        n_trials: int,
    ) -> bool:
        """Searches until the study has `n_trials`; whether it got there."""
        vocab = vocabulary_size(baseline)
        processes, candidates = at_once(
            engine, self.settings, self.prompts.bad_evaluation.prompts, vocab, self.reporter
        )
        self._note(study, processes, candidates)
        # What a prescribed study begins with is in its queue already.
        first = [] if self.prescribed is not None else first_candidates(study.space, self.settings)
        missing = [each for each in first if not study.holds(each)]
        with workers(processes, InProcessMeasurer(evaluator, baseline, compiled, candidates)) as measurer:
            search = Search(study, measurer, evaluator, baseline, self.settings, missing, self.statistics)
            whole = search.run(n_trials, self.reporter)
        # A search for more trials continues with what this one has learned.
        self.statistics = search.statistics
        return whole

    def _note(self, study: Study, processes: int, candidates: int) -> None:
        """This start of the program, once, with what is measured at once: the order of asking hangs on it."""
        if not self.noted:
            self.noted = True
            settings = self.settings.model_copy(update={"n_workers": processes, "candidates_per_forward": candidates})
            study.note_run(run_record(settings))
