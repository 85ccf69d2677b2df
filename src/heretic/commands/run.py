"""The main command: searches for ablations of a model, and exports the chosen trial."""

from contextlib import ExitStack
from dataclasses import replace

from ..ablation.methods.registry import find_method
from ..ablation.sites import components_of
from ..config import HeldoutSettings, PromptSettings, SearchSettings, Settings, resolve_prompts
from ..engine.local import LocalEngine
from ..evaluation.evaluator import Evaluator
from ..evaluation.heldout.evaluate import HeldoutPrompts
from ..evaluation.scorers.registry import objective_names
from ..events import Chooser, Reporter
from ..model.loading.checkpoint import find_checkpoint
from ..model.loading.quantization import check_packages
from ..search.cluster.open import search_engine
from ..search.study_search import StudySearch
from ..session.context import LoadedStudy, RunningStudy, Session
from ..session.existing import join_shared, settle_existing
from ..session.expected_method import expected_method
from ..session.forecast import say_forecast
from ..session.full_precision import check_original
from ..session.heldout import check_heldout_prompts
from ..session.method import keep_method, settle_method
from ..session.prompts import RunPrompts, load_heldout_prompts, load_run_prompts
from ..session.recorded import model_stats, runtime_of
from ..session.remote_code import settle_trust
from ..session.residual_plots import check_plots
from ..session.response_log import counting_evaluator
from ..session.save import check_export, check_sites, wanted_format, warn_of_unwritable
from ..session.start import FixedCandidates, resume_study, start_study
from ..study.journal import SingleWriter, study_path
from ..study.reader import RecordedStudy, has_record
from ..study.sampler import SamplerOptions
from ..study.schema import BASELINE
from ..study.shared import COPY
from ..study.study import Study
from .early_checks import check_search, check_target, check_trial
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
        # A study on this machine alone is a different one, and is kept.
        path = path.with_stem(path.stem + COPY)
    check_search(settings, path)
    # Locked before the journal is repaired: another process may be writing an unfinished line.
    with SingleWriter(path) as writer, ExitStack() as opened:
        shared = join_shared(settings, settings.storage, settings.method, path, reporter)
        searching = shared is not None or settle_existing(path, settings, chooser, reporter)
        prompts = load_run_prompts(settings, settings.over_refusal_objective)
        part = _heldout_prompts(settings, settings, settings.is_about_refusals, prompts, reporter)
        record = RecordedStudy(path).record if has_record(path) else None
        say_forecast(settings, expected_method(settings, record), settings.max_response_length, prompts, reporter)
        checkpoint = find_checkpoint(model, settings.model_commit, reporter)
        check_original(settings, checkpoint)
        session = keep_method(_checked(Session(settings, prompts, checkpoint, reporter, path)), record)
        profile = None if record is None else runtime_of(record)
        engine = opened.enter_context(search_engine(session, profile))
        session = settle_method(session, engine, record)
        if record is None:
            check_trial(session.settings)
        if (form := wanted_format(settings)) is not None:
            check_sites(session, form, engine.sites)
        else:
            warn_of_unwritable(session, engine.sites)
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
            searches = StudySearch(running, part, fixed, chooser.asks)
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
