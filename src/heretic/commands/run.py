"""The main command: searches for ablations of a model, and exports the chosen trial."""

import functools
from dataclasses import replace
from pathlib import Path

from ..ablation.methods.registry import find_method
from ..ablation.sites import components_of
from ..config import SearchSettings, Settings, resolve_prompts
from ..engine.local import LocalEngine
from ..errors import ConfigError
from ..evaluation.evaluator import Evaluator
from ..evaluation.heldout.evaluate import HeldoutPrompts
from ..evaluation.pruning.statistics import PruningStatistics
from ..evaluation.scorers.kl import vocabulary_size
from ..evaluation.scorers.registry import objective_names
from ..events import Chooser, Reporter
from ..export.directory import check_output
from ..model.loading.checkpoint import find_checkpoint
from ..report.tables import show_heldout
from ..search.loop import Search
from ..search.measurer import InProcessMeasurer
from ..search.parallelism import Parallelism, choose_parallelism
from ..search.process_pool import workers
from ..session.context import LoadedStudy, RunningStudy, Session
from ..session.engine import open_engine
from ..session.heldout import HeldoutEvaluation, check_heldout_prompts, numbered, spread
from ..session.prompts import load_heldout_prompts, load_run_prompts
from ..session.recorded import model_stats, runtime_of
from ..session.recorded_settings import figure_settings
from ..session.records import run_record
from ..session.remote_code import settle_trust
from ..session.residual_plots import check_plots
from ..session.response_log import counting_evaluator
from ..session.save import check_export, wanted_format
from ..session.start import FixedCandidates, first_candidates, resume_study, start_study
from ..study.journal import SingleWriter, repair, set_aside, study_path
from ..study.pareto import pareto_front
from ..study.reader import RecordedStudy, has_record
from ..study.sampler import SamplerOptions
from ..study.schema import BASELINE
from ..study.study import Study
from ..ui.flags import default_output
from .menu import run_menu, show_front
from .upload import check_upload

INTERRUPTED = 130


def run(settings: Settings, chooser: Chooser, reporter: Reporter, fixed: FixedCandidates | None = None) -> int:
    """Fits directions, searches (or evaluates the `fixed` candidates), then runs the menu; returns the exit status.

    Raises:
        UserError: a setting or an input has to change; all recorded trials stay.
    """
    path = _check_settings(settings)
    # Locked before the journal is repaired: another process may be writing an unfinished line.
    with SingleWriter(path) as writer:
        searching = _settle_existing(path, settings, chooser, reporter)
        session, part = _open_session(settings, path, reporter)
        profile = runtime_of(RecordedStudy(path).record) if has_record(path) else None
        engine = open_engine(session, profile)
        if part is not None:
            check_heldout_prompts(session, engine, part)
        method = find_method(session.settings.method)
        space = method.space(components_of(engine.sites), len(engine.loaded.layers) - 1)
        evaluator = counting_evaluator(engine, session.settings, session.prompts, f"the {BASELINE}", reporter)
        sampler = sampler_options(session.settings)
        with Study(path, space, sampler, writer, objective_names(evaluator.scorers)) as study:
            running = _begin(session, engine, study, evaluator)
            # A resumed study has them in its queue already.
            for parameters in fixed.candidates if fixed and profile is None else ():
                study.enqueue(parameters)
            search = _Searches(running, fixed).run
            if searching and not search(session.settings.n_trials):
                show_front(study, reporter)
                reporter.say(f"Stopped. Run the command again to continue, or see the results: heretic results {path}")
                return INTERRUPTED
            return run_menu(running, chooser, search, lambda: _evaluate_front(running, part, fixed))


def _check_settings(settings: Settings) -> Path:
    """Checks what needs neither the model's files nor prompts; returns the path of the study."""
    if settings.model is None:
        raise ConfigError("Expected a model, got none. Name a directory, a .gguf file or a hub id: heretic MODEL.")
    if settings.output is not None or settings.export not in (None, "none") or settings.upload is not None:
        check_output(settings.output or Path(default_output(settings.model)))
    if settings.upload is not None:
        check_upload(settings.upload)
    check_plots(settings, resolve_prompts(settings))
    return study_path(settings.study_checkpoint_dir, settings.model)


def _settle_existing(path: Path, settings: SearchSettings, chooser: Chooser, reporter: Reporter) -> bool:
    """Continues an existing study, shows it, or sets it aside; returns whether to search before the menu."""
    if not path.exists():
        return True
    if settings.resume == "restart":
        reporter.say(f"The earlier study is kept as {set_aside(path)}.")
        return True
    cut = repair(path)
    if cut:
        reporter.warn(f"The last line of {path} was incomplete, as after a kill; its {cut} bytes were removed.")
    if not has_record(path):
        return True
    finished = len(RecordedStudy(path).trials)
    choice = chooser.resume(finished, settings.n_trials, str(path))
    if choice == "restart":
        reporter.say(f"The earlier study is kept as {set_aside(path)}.")
        return True
    if choice == "continue":
        reporter.say(f"Resuming {path}: {finished} of {settings.n_trials} trials are done.")
    return choice == "continue"


def _open_session(settings: Settings, path: Path, reporter: Reporter) -> tuple[Session, HeldoutPrompts | None]:
    """Prompts and model files, checked; and the held-out prompts, if there are any."""
    prompts = load_run_prompts(settings, settings.over_refusal_objective)
    for note in prompts.notes:
        reporter.warn(note)
    part = load_heldout_prompts(settings, settings, settings.is_about_refusals, prompts)
    if part is None and settings.heldout_trials:
        reporter.say("No held-out evaluation: good_heldout_prompts and bad_heldout_prompts are not given.")
    checkpoint = find_checkpoint(str(settings.model), settings.model_commit)
    session = Session(settings, prompts, checkpoint, reporter, path)
    if (form := wanted_format(settings)) is not None:
        check_export(session, form)
    return replace(session, settings=settle_trust(settings, checkpoint, reporter)), part


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
    """The searches of one run. Each continues with the statistics of the earlier ones."""

    def __init__(self, running: RunningStudy, fixed: FixedCandidates | None) -> None:
        self._running = running
        self._fixed = fixed
        self._statistics: PruningStatistics | None = None

    @functools.cached_property
    def _parallelism(self) -> Parallelism:
        """Chosen and recorded when this run first searches: the order in which trials are requested depends on it."""
        running = self._running
        chosen = choose_parallelism(running.loaded, vocabulary_size(running.baseline))
        used = {"n_workers": chosen.processes, "candidates_per_forward": chosen.candidates}
        running.study.note_run(run_record(figure_settings(running.loaded.settings) | used))
        return chosen

    def run(self, n_trials: int) -> bool:
        """Searches until the study has `n_trials`; returns False after Ctrl+C."""
        running, parallelism = self._running, self._parallelism
        # Fixed candidates are in the queue already.
        first = [] if self._fixed else first_candidates(running.study.space, running.loaded.settings)
        missing = [each for each in first if not running.study.holds(each)]
        compiled = running.loaded.compile
        alone = InProcessMeasurer(running.evaluator, running.baseline, compiled, parallelism.candidates)
        with workers(parallelism.processes, alone) as measurer:
            search = Search(running, measurer, missing, self._statistics)
            finished = search.run(n_trials)
        self._statistics = search.statistics
        return finished


def _evaluate_front(running: RunningStudy, part: HeldoutPrompts | None, fixed: FixedCandidates | None) -> None:
    """Evaluates the front on held-out prompts, or those of the `fixed` candidates that the record measured."""
    trials, baseline = running.study.trials, running.study.record.baseline
    if fixed is not None:
        chosen = numbered(trials, fixed.measured)
    else:
        chosen = spread(pareto_front(trials, baseline), baseline, running.loaded.settings.heldout_trials)
    if part is not None and chosen:
        report = HeldoutEvaluation(running.loaded, part, len(trials)).run(chosen)
        show_heldout(report, baseline, running.reporter)
