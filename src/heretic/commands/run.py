"""The main command: searches for ablations of a model, and exports the chosen trial."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property

from ..ablation.methods.registry import find_method
from ..ablation.sites import components_of
from ..config import HeldoutSettings, PromptSettings, SearchSettings, Settings, resolve_prompts
from ..config.changes import values_as_json
from ..engine.local import LocalEngine
from ..errors import StudyError
from ..evaluation.evaluator import Evaluator
from ..evaluation.heldout.evaluate import HeldoutPrompts
from ..evaluation.heldout.measurer import HeldoutMeasurer, SharedForwards
from ..evaluation.pruning.statistics import PruningStatistics
from ..evaluation.scorers.kl import vocabulary_size
from ..evaluation.scorers.registry import objective_names
from ..events import Chooser, Reporter
from ..model.loading.checkpoint import find_checkpoint
from ..model.loading.quantization import check_packages
from ..report.tables import show_heldout
from ..search.cluster.measurer import chosen_parallelism, open_heldout, open_measurer
from ..search.cluster.open import search_engine
from ..search.learned_points import LearnedPoints
from ..search.loop import Search
from ..search.measurer import Measurer
from ..search.parallelism import Parallelism
from ..search.process_pool import ProcessPool
from ..search.time_budget import HeldoutCost
from ..session.context import LoadedStudy, RunningStudy, Session
from ..session.existing import join_shared, settle_existing
from ..session.forecast import kept_speed, say_forecast
from ..session.full_precision import check_original
from ..session.heldout import HeldoutEvaluation, check_heldout_prompts, numbered, response_length, spread
from ..session.learning import LearnedPaths
from ..session.prompts import RunPrompts, load_heldout_prompts, load_run_prompts
from ..session.recorded import model_stats, runtime_of
from ..session.recorded_settings import METRIC_SETTINGS
from ..session.records import run_record
from ..session.remote_code import settle_trust
from ..session.residual_plots import check_plots
from ..session.response_log import counting_evaluator
from ..session.save import check_export, check_sites, wanted_format
from ..session.start import FixedCandidates, first_candidates, resume_study, start_study
from ..study.journal import SingleWriter, study_path
from ..study.pareto import pareto_front, select
from ..study.reader import RecordedStudy, has_record
from ..study.sampler import SamplerOptions
from ..study.schema import BASELINE, BaselineRecord, TrialRecord
from ..study.shared import COPY
from ..study.study import Study
from .early_checks import check_search, check_target
from .menu import run_menu, show_front

INTERRUPTED = 130


def run(settings: Settings, chooser: Chooser, reporter: Reporter, fixed: FixedCandidates | None = None) -> int:
    """Fits directions, searches (or evaluates the `fixed` candidates), then runs the menu; returns the exit status.

    Raises:
        UserError: a setting or an input has to change; all recorded trials stay.
    """
    model = check_target(settings.model, settings)
    check_packages(settings)
    check_plots(settings, resolve_prompts(settings))
    path = study_path(settings.study_checkpoint_dir, model)
    if settings.storage is not None:
        # A study of this machine alone is another one, and stays.
        path = path.with_stem(path.stem + COPY)
    check_search(settings, settings.trial, path)
    # Locked before the journal is repaired: another process may be writing an unfinished line.
    with SingleWriter(path) as writer, ExitStack() as opened:
        shared = join_shared(settings, settings.storage, settings.method, path, reporter)
        searching = shared is not None or settle_existing(path, settings, chooser, reporter)
        prompts = load_run_prompts(settings, settings.over_refusal_objective)
        part = _heldout_prompts(settings, settings, settings.is_about_refusals, prompts, reporter)
        say_forecast(settings, settings, settings.max_response_length, prompts, reporter)
        checkpoint = find_checkpoint(model, settings.model_commit, reporter)
        check_original(settings, checkpoint)
        session = _checked(Session(settings, prompts, checkpoint, reporter, path))
        profile = runtime_of(RecordedStudy(path).record) if has_record(path) else None
        engine = opened.enter_context(search_engine(session, profile))
        if (form := wanted_format(settings)) is not None:
            check_sites(session, form, engine.sites)
        if part is not None:
            check_heldout_prompts(session, engine, part)
        method = find_method(session.settings.method)
        space = method.space(components_of(engine.sites), len(engine.loaded.layers) - 1)
        evaluator = counting_evaluator(engine, session.settings, session.prompts, f"the {BASELINE}", reporter)
        sampler = sampler_options(session.settings)
        with Study(path, space, sampler, writer, objective_names(evaluator.scorers), shared) as study:
            running = _begin(session, engine, study, evaluator)
            # A resumed study has them in its queue already.
            for parameters in fixed.candidates if fixed and profile is None else ():
                study.enqueue(parameters)
            searches = _Searches(running, part, fixed, chooser.asks)
            if searching and not searches.first():
                show_front(study, reporter)
                reporter.say(f"Stopped. Run the command again to continue, or see the results: heretic results {path}")
                return INTERRUPTED
            return run_menu(running, chooser, searches.run, searches.evaluate_front)


def _heldout_prompts(
    settings: HeldoutSettings, run: PromptSettings, refusals: bool, prompts: RunPrompts, reporter: Reporter
) -> HeldoutPrompts | None:
    """The held-out prompts, if there are any. Notes on the `prompts` of the search are shown first."""
    if run.over_refusal_evaluation_prompts is not None and prompts.over_refusal is None:
        reporter.warn("over_refusal_evaluation_prompts have no effect without over_refusal_objective.")
    for note in prompts.notes:
        reporter.warn(note)
    part = load_heldout_prompts(settings, run, refusals, prompts)
    if part is None and settings.heldout_trials:
        reporter.say("No held-out evaluation: good_heldout_prompts and bad_heldout_prompts are not given.")
    return part


def _checked(session: Session) -> Session:
    """The session, once it is settled whether its model's code may run.

    Raises:
        ExportError: the wanted export can't be made from its model.
    """
    if (form := wanted_format(session.settings)) is not None:
        check_export(session, form)
    return replace(session, settings=settle_trust(session.settings, session.checkpoint, session.reporter))


def _begin(session: Session, engine: LocalEngine, study: Study, evaluator: Evaluator) -> RunningStudy:
    """Starts the study or resumes it."""
    if has_record(session.path):
        tensors, baseline = resume_study(session, engine, study, evaluator)
    else:
        tensors, baseline = start_study(session, engine, study, evaluator)
    returned = study.take_back_running()
    if returned:
        session.reporter.say(f"{returned} trials were running when the program ended; they run again.")
    loaded = LoadedStudy(session, study.record, engine, tensors, model_stats(session, engine, tensors))
    return RunningStudy(loaded, study, evaluator, baseline)


def sampler_options(settings: SearchSettings) -> SamplerOptions:
    """The sampler of the settings."""
    startup = min(settings.n_startup_trials, settings.n_trials)
    return SamplerOptions(settings.sampler, settings.seed, startup, settings.n_ei_candidates)


class _Searches:
    """The searches of one run, and the held-out evaluation after them. Each search continues with the statistics of the
    earlier ones."""

    def __init__(
        self, running: RunningStudy, part: HeldoutPrompts | None, fixed: FixedCandidates | None, asks: bool
    ) -> None:
        self._running = running
        self._part = part
        self._fixed = fixed
        self._asks = asks
        self._statistics: PruningStatistics | None = None
        self._noted = False

    @cached_property
    def _parallelism(self) -> Parallelism:
        return chosen_parallelism(self._running.loaded, vocabulary_size(self._running.baseline))

    def _note_run(self, measurer: Measurer) -> None:
        """Records the parallelism at the first search: the order in which trials are requested depends on it."""
        if not self._noted:
            chosen = self._parallelism
            used = {"n_workers": chosen.processes, "candidates_per_forward": chosen.candidates}
            used["open_candidates"] = measurer.ahead
            kept = values_as_json(self._running.loaded.settings, METRIC_SETTINGS)
            self._running.study.note_run(run_record(kept | used))
        self._noted = True

    @cached_property
    def _paths(self) -> LearnedPaths | None:
        """Of a method whose candidates are learned; None where a sampler draws them, or they are fixed."""
        loaded = self._running.loaded
        learns = not find_method(loaded.settings.method).parameters.sampled
        return LearnedPaths(loaded) if learns and self._fixed is None else None

    def first(self) -> bool:
        """The search that the settings ask for; of a learned path no more than its points."""
        n_trials = self._running.loaded.settings.n_trials
        return self.run(n_trials if self._paths is None else min(n_trials, self._paths.points_a_path))

    def _learned_points(self, measurer: Measurer) -> LearnedPoints | None:
        if self._paths is None:
            return None
        # One is measured while the next is learned; in this process, as many as share a forward.
        ahead = 2 if isinstance(measurer, ProcessPool) else measurer.ahead
        return LearnedPoints(self._running.study, self._paths, ahead)

    def run(self, n_trials: int) -> bool:
        """Searches until the study has `n_trials`; returns False after Ctrl+C."""
        if self._paths is not None and self._running.study.n_finished() < n_trials:
            self._paths.prepare()
        running, parallelism = self._running, self._parallelism
        # Fixed candidates are in the queue already.
        first = [] if self._fixed else first_candidates(running.study.space, running.loaded.settings)
        missing = [each for each in first if not running.study.holds(each)]
        with open_measurer(running, parallelism) as measurer:
            self._note_run(measurer)
            learned = self._learned_points(measurer)
            search = Search(running, measurer, missing, self._statistics, self._heldout_cost(), learned)
            with kept_speed(running):
                finished = search.run(n_trials)
        self._statistics = search.statistics
        running.study.copy_here()
        return finished

    def evaluate_front(self) -> None:
        """Held-out evaluation of the trials that `heldout_trials` chooses."""
        running, part = self._running, self._part
        if part is None:
            return
        trials, baseline = running.study.trials, running.study.record.baseline
        evaluation = HeldoutEvaluation(running.loaded, part, len(trials))
        front = pareto_front(trials, baseline)
        selected = self._selected(front, baseline)
        if self._fixed is not None:
            chosen = numbered(trials, self._fixed.measured)
        elif self._only_selected and selected is not None:
            known = evaluation.measured()
            chosen = [trial for trial in front if trial == selected or trial.number in known]
            if len(chosen) < len(front):
                running.reporter.say(
                    f"Trial {selected.number}, which is selected, is measured on held-out prompts; with heldout_trials "
                    "others of the front are too."
                )
        else:
            chosen = spread(front, baseline, running.loaded.settings.heldout_trials, selected)
        if chosen:
            missing = {trial.number for trial in chosen} - evaluation.measured()
            measurer = self._heldout_measurer(part) if missing else SharedForwards()
            show_heldout(evaluation.run(chosen, measurer, selected), baseline, running.reporter)

    def _heldout_measurer(self, part: HeldoutPrompts) -> HeldoutMeasurer:
        vocab = vocabulary_size(self._running.baseline)
        return open_heldout(self._running.loaded, part, self._parallelism, vocab)

    @property
    def _only_selected(self) -> bool:
        """Whether a flag selects the trial to be exported, and nothing asks for the metrics of others."""
        settings = self._running.loaded.settings
        return not self._asks and settings.trial is not None and "heldout_trials" not in settings.model_fields_set

    def _selected(self, front: Sequence[TrialRecord], baseline: BaselineRecord) -> TrialRecord | None:
        """The trial that will be exported without asking; None where somebody is asked, or there is none."""
        if self._asks or self._fixed is not None or not front:
            return None
        wanted = self._running.loaded.settings.trial
        try:
            return select(front, baseline, "knee" if wanted is None else wanted)
        except StudyError:
            # The export says why.
            return None

    def _heldout_cost(self) -> HeldoutCost:
        part, settings, evaluator = self._part, self._running.loaded.settings, self._running.evaluator
        if part is None:
            return HeldoutCost()
        # The good prompts of a trial are prefilled alone, which costs little beside the responses to the others.
        generated = max(1, evaluator.rows - len(self._running.loaded.session.prompts.good_evaluation))
        longer = response_length(self._running.loaded.session) / settings.max_response_length
        most = 1 if self._only_selected else settings.heldout_trials
        return HeldoutCost(part.rows * longer * evaluator.rows / generated, most, self._parallelism.candidates)
