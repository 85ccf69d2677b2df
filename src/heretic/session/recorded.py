"""Opens a recorded study, for every command that starts from a journal."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from ..ablation.methods.registry import find_method
from ..ablation.methods.tensors import StudyTensors
from ..ablation.sites import Site
from ..ablation.weight_stats import WeightStats
from ..config import PromptSource, Settings
from ..config.changes import changed
from ..engine.local import LocalEngine
from ..engine.protocol import RuntimeProfile
from ..errors import ExportError, PromptError, StudyError
from ..events import Reporter
from ..export.readers.base import open_checkpoint
from ..model.loading.checkpoint import Checkpoint, find_checkpoint
from ..prompts.loading import load_prompts
from ..study.journal import tensors_path
from ..study.pareto import pareto_front, rules, select
from ..study.reader import RecordedStudy
from ..study.schema import StudyRecord, TrialRecord
from .context import LoadedStudy, Session
from .directions import read_tensors, stats_from_checkpoint
from .engine import open_engine
from .files_digest import check_files
from .full_precision import check_original, full_precision_of
from .prompts import NO_PROMPTS, OVER_REFUSAL_EVALUATION, RunPrompts
from .recorded_settings import recorded_values
from .remote_code import settle_trust


def load_study(study: RecordedStudy, settings: Settings, reporter: Reporter) -> LoadedStudy:
    """The study with its model as the search loaded it, without prompts, for commands that have their own.

    Raises:
        ModelError: the model can't be loaded, or needs code that the user has not allowed to run.
        ExportError: the model's files have changed since.
        StudyError: the directions are missing, or the record is damaged.
        ConfigError: a recorded setting can't be used.
    """
    tensors = read_tensors(tensors_path(study.path))
    session = open_session(study, settings, reporter, NO_PROMPTS)
    engine = load_engine(session, study.record)
    return LoadedStudy(session, study.record, engine, tensors, model_stats(session, engine, tensors))


def open_session(study: RecordedStudy, settings: Settings, reporter: Reporter, prompts: RunPrompts) -> Session:
    """Finds the model that the record names, and settles whether its code may run. It loads nothing.

    The record decides only the settings that metrics depend on. Permissions, addresses and paths are those of
    `settings`.
    """
    record = study.record
    settings = changed(settings, recorded_values(record.settings, str(study.path), reporter), str(study.path))
    place = f"revision {record.model_revision} on the hub" if record.model_revision else record.model_path
    elsewhere = "" if place == record.model else f" ({place})"
    reporter.say(f"Study {study.path} of the model {record.model}{elsewhere}.")
    checkpoint = checkpoint_of(record)
    check_original(settings, checkpoint)
    check_files(checkpoint, record.files_digest, str(study.path), reporter)
    settings = settle_trust(settings, checkpoint, reporter)
    return Session(settings, prompts, checkpoint, reporter, study.path)


def load_engine(session: Session, record: StudyRecord) -> LocalEngine:
    """The session's model, loaded as in the recorded study."""
    profile = runtime_of(record)
    # Another machine may have less memory. Metrics change only by rounding.
    return open_engine(session, replace(profile, batch_size=session.settings.batch_size or profile.batch_size))


def runtime_of(record: StudyRecord) -> RuntimeProfile:
    """The profile that the study's own run measured.

    Raises:
        StudyError: the record is damaged.
    """
    if record.batch_size < 1:
        raise StudyError(f"Expected a recorded batch size of at least 1, got {record.batch_size}. Restore the journal.")
    arguments, date = (record.settings.get(f"chat_template_{name}") for name in ("arguments", "date"))
    return RuntimeProfile(record.dtype, record.response_prefix, record.batch_size, arguments or {}, date)


def checkpoint_of(record: StudyRecord) -> Checkpoint:
    """The files of the recorded study's model.

    Raises:
        ExportError: the model's files have changed since.
    """
    local = Path(record.model_path)
    name = record.model if not local.exists() else str(local)
    checkpoint = find_checkpoint(name, record.model_revision)
    if checkpoint.digest() != record.model_digest:
        raise ExportError(
            f"Expected the model that the study was run on in {name}, but its files have changed since (digest "
            f"{record.model_digest} then, {checkpoint.digest()} now). Restore them, or run the study again."
        )
    return checkpoint


def recorded_sites(record: StudyRecord) -> list[Site]:
    """The weights that the study's trials edit.

    Raises:
        StudyError: the record of one is damaged.
    """
    try:
        return [Site.from_plain(site) for site in record.sites]
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise StudyError(
            f"Expected the edited weights in the study's record, but one of them is damaged ({error!r:.100}). Restore "
            "the journal from a copy."
        ) from error


def recorded_prompts(record: StudyRecord) -> RunPrompts:
    """The prompts that the study was run with.

    Raises:
        PromptError: their sources have changed since.
        StudyError: a recorded source is damaged.
    """
    sources = {name: _source(name, prompts.source) for name, prompts in record.prompts.items()}
    sets = {name: load_prompts(source) for name, source in sources.items()}
    for name, each in sets.items():
        if each.digest != record.prompts[name].digest:
            raise PromptError(
                f"Expected the {name} that the study was run with (digest {record.prompts[name].digest}), but "
                f"{each.source} gives others now ({each.digest}). Restore that file or data set."
            )
    return RunPrompts(
        sets["good_prompts"],
        sets["bad_prompts"],
        sets["good_evaluation_prompts"],
        sets["bad_evaluation_prompts"],
        sources,
        sets.get(OVER_REFUSAL_EVALUATION),
    )


def _source(name: str, recorded: Mapping[str, object]) -> PromptSource:
    try:
        return PromptSource.model_validate(recorded)
    except ValidationError as error:
        first = error.errors()[0]["msg"]
        raise StudyError(f"Expected the source of {name} in the record, but {first}. Restore the journal.") from error


def model_stats(session: Session, engine: LocalEngine, tensors: StudyTensors) -> Mapping[str, WeightStats]:
    """Statistics of every site's weight, in full precision if such a checkpoint is known; none if the method needs
    none."""
    if not find_method(session.settings.method).needs_weights:
        return {}
    with session.reporter.step("Weight statistics", len(engine.sites)) as progress:
        source = full_precision_of(session.settings, session.checkpoint)
        if source is None or (source == session.checkpoint and session.settings.quantization == "none"):
            return engine.weight_stats(tensors.directions, progress)
        reader = open_checkpoint(source.directory, source.gguf_file)
        return stats_from_checkpoint(reader, engine.sites, tensors, progress)


def find_trial(study: RecordedStudy, wanted: str | int | None) -> TrialRecord:
    """Any complete trial by its number, or the one of the front that a rule names (the knee by default).

    Raises:
        StudyError: there is no such trial.
    """
    rule = "knee" if wanted is None else wanted
    number = int(rule) if str(rule).isdecimal() else None
    for trial in study.trials:
        if trial.number == number:
            return trial
    names = rules(study.baseline)
    if number is not None or rule in names:
        return select(pareto_front(study.trials, study.baseline), study.baseline, rule if number is None else number)
    raise StudyError(f"Expected a trial's number, {', '.join(names[:-1])} or {names[-1]}, got {rule!r}.")


def find_trials(study: RecordedStudy, wanted: Sequence[str]) -> list[TrialRecord]:
    """The trials that numbers and rules name, each once; the knee if nothing is named.

    Raises:
        StudyError: there is no such trial.
    """
    named = [find_trial(study, each) for each in wanted or ["knee"]]
    return list({trial.number: trial for trial in named}.values())
