"""Repeats a recorded run and compares its metrics."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config import EvaluationSettings, HeldoutSettings, JudgeSource, ModelSettings, PromptSettings, Settings
from ..config.changes import changed
from ..errors import ConfigError, ExportError, ModelError, PromptError, StudyError
from ..evaluation.rounding import Rounding, kl_rounding
from ..events import Reporter
from ..files import expand_home
from ..model.loading.checkpoint import find_checkpoint
from ..prompts.prompt import PromptSet
from ..report.reproduction import (
    ComparedMetric,
    Reproduction,
    compare_baselines,
    compare_measured,
    compare_trial,
    differences,
)
from ..session.files_digest import check_files
from ..session.prompts import load_heldout_prompts, load_run_prompts
from ..session.recorded_run import RecordedRun, read_recorded_run
from ..session.recorded_settings import METRIC_SETTINGS, recorded_values
from ..session.records import hardware, versions
from ..session.sidecars import read_heldout_report
from ..session.start import FixedCandidates
from ..session.tensor_store import copy_tensors
from ..study.journal import study_path
from ..study.reader import RecordedStudy, has_record
from ..study.schema import BaselineRecord, TrialRecord
from ..ui.flags import FlagChooser
from .run import run

PLACE = Path("reproduced")
NOTHING_WRITTEN = {"trial": None, "export": "none", "output": None, "upload": None, "upload_public": False}


@dataclass(frozen=True, slots=True)
class ReproduceOptions:
    """Whether to repeat the `whole` search from its seed, or only the trials of the front.

    `flags` are the user's. Those that metrics depend on override the record.
    """

    whole: bool = False
    flags: Mapping[str, str | bool] = field(default_factory=dict)


def reproduce(source: str, options: ReproduceOptions, own: Settings, reporter: Reporter) -> Reproduction | None:
    """Repeats a recorded run in a new study and compares the metrics; None after Ctrl+C.

    Without `whole`, the recorded trials of the front are measured again, with new directions, baseline and held-out
    metrics; with it, the search runs again too. Only the settings that decide metrics come from the record; all others,
    permissions and addresses among them, come from `own`.

    Raises:
        UserError: the record can't be read, or its model or prompts are not available.
    """
    recorded = read_recorded_run(source)
    settings = settings_for(recorded, options, own, reporter)
    journal = study_path(settings.study_checkpoint_dir, str(settings.model))
    # Printed before anything is downloaded or loaded.
    reporter.say(_plan(recorded, options.whole, journal, settings, settings.judges))
    check_same_model(recorded, settings, reporter)
    check_same_prompts(recorded, _prompt_sets(settings, settings, settings, recorded.measured is not None))
    _check_place(journal, source, recorded, options.whole)
    fixed = None
    if not options.whole:
        for number in recorded.repeated:
            copy_tensors(recorded.trials[number].parameters, recorded.tensors, journal)
        trials = [recorded.trials[number].parameters for number in recorded.repeated]
        fixed = FixedCandidates(trials, _measured_numbers(recorded))
    status = run(settings, FlagChooser(settings, "continue", str(settings.model)), reporter, fixed)
    return None if status else compare(recorded, RecordedStudy(journal), options.whole)


def settings_for(recorded: RecordedRun, options: ReproduceOptions, own: Settings, reporter: Reporter) -> Settings:
    """The settings of the new run: the record's where metrics depend on them, the user's elsewhere.

    Raises:
        ConfigError: one of them can't be used, or the record has no search to repeat.
    """
    flags = options.flags
    # The user's configuration must not change metrics.
    settings = changed(own, {key: getattr(Settings(), key) for key in METRIC_SETTINGS})
    values = recorded_values(recorded.settings, recorded.source, reporter, flags)
    settings = changed(settings, values, recorded.source)
    changes: dict[str, object] = {"resume": "continue", "time_budget": None, **NOTHING_WRITTEN}
    if "study_checkpoint_dir" not in flags:
        changes["study_checkpoint_dir"] = PLACE
    if "model" not in flags:
        changes |= {"model": _model_of(recorded), "model_commit": recorded.model_revision}
    if recorded.dtype is not None and "dtypes" not in flags:
        changes["dtypes"] = [recorded.dtype]
    if not options.whole:
        # No pruning: trials of the front were fully evaluated, and a lower bound says little.
        alone = {
            "n_trials": len(recorded.repeated),
            "prune_dominated": False,
            "literature_trials": False,
            "warm_start": None,
        }
        return changed(settings, changes | alone, recorded.source)
    if recorded.n_trials is None:
        raise ConfigError(
            f"Expected a record of a search in {recorded.source}, but {recorded.why_not}. Leave --search out to "
            "measure its trials again."
        )
    return changed(settings, changes | {"n_trials": recorded.n_trials}, recorded.source)


def _model_of(recorded: RecordedRun) -> str:
    """The model's place according to the record: a hub id, a path as the author typed it, or an absolute path."""
    if recorded.model_revision is None:
        for name in (recorded.model, recorded.model_path):
            if name is not None and expand_home(name).exists():
                return str(expand_home(name))
    return recorded.model


def check_same_model(recorded: RecordedRun, settings: ModelSettings, reporter: Reporter) -> None:
    """Makes sure that the model is that of the record.

    Raises:
        ModelError: the model is missing.
        ExportError: it is another one.
    """
    try:
        checkpoint = find_checkpoint(str(settings.model), settings.model_commit)
    except ModelError as error:
        # The record of an export has the public name of a local model, not its path.
        raise ModelError(f"{error} It is the model of {recorded.source}; give its path with --model.") from error
    if checkpoint.digest() != recorded.model_digest:
        raise ExportError(
            f"Expected the model that {recorded.source} was made with (digest {recorded.model_digest}), but "
            f"{settings.model} has the digest {checkpoint.digest()}. Give its path with --model."
        )
    check_files(checkpoint, recorded.files_digest, recorded.source, reporter)


def check_same_prompts(recorded: RecordedRun, found: Mapping[str, PromptSet]) -> None:
    """Makes sure that the prompt sets, by key, are those of the record.

    Raises:
        PromptError: one is missing, or differs.
    """
    wanted = {name: each.digest for name, each in recorded.prompts.items()}
    if recorded.measured is not None:
        wanted |= {name: each.digest for name, each in recorded.measured.prompts.items()}
    for name, digest in wanted.items():
        if name not in found or found[name].digest != digest:
            came = "none" if name not in found else f"{found[name].source} with the digest {found[name].digest}"
            raise PromptError(
                f"Expected the {name} that {recorded.source} was made with (digest {digest}), found {came}. Give them "
                f"with --{name.replace('_', '-')}."
            )


def _prompt_sets(
    run: PromptSettings, evaluation: EvaluationSettings, heldout: HeldoutSettings, measured: bool
) -> dict[str, PromptSet]:
    """The prompt sets of the settings by key; with the held-out ones if the record has them `measured`."""
    prompts = load_run_prompts(run, evaluation.over_refusal_objective)
    part = load_heldout_prompts(heldout, run, evaluation.is_about_refusals, prompts) if measured else None
    return prompts.sets() | (part.sets() if part is not None else {})


def _check_place(journal: Path, source: str, recorded: RecordedRun, whole: bool) -> None:
    """Makes sure that the journal is free, or has the first trials of the same reproduction, as after a stop.

    Raises:
        StudyError: another study is there.
    """
    if not journal.exists() or not has_record(journal):
        return
    there = RecordedStudy(journal).trials
    original = expand_home(source).resolve() == journal.resolve()
    ours = not original and not whole and all(_same(trial, recorded, place) for place, trial in enumerate(there))
    if not ours:
        raise StudyError(
            f"Expected no study in {journal}, but there is one. Give this reproduction a directory of its own with "
            "--study-checkpoint-dir."
        )


def _same(trial: TrialRecord, recorded: RecordedRun, place: int) -> bool:
    """Whether the trial repeats the recorded one with this index."""
    if place >= len(recorded.repeated):
        return False
    return same_parameters(trial, recorded.trials[recorded.repeated[place]])


def same_parameters(first: TrialRecord, second: TrialRecord) -> bool:
    """Whether two trials are the same candidate, up to rounding: the sampler draws fractions of weights."""
    ours, theirs = (_numbers(each.parameters.model_dump()) for each in (first, second))
    return ours.keys() == theirs.keys() and all(
        value == theirs[key] or (isinstance(value, float) and math.isclose(value, theirs[key], rel_tol=1e-12))
        for key, value in ours.items()
    )


def _numbers(table: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= _numbers(value, f"{before}{key}.") if isinstance(value, Mapping) else {before + key: value}
    return flat


def _measured_numbers(recorded: RecordedRun) -> list[int]:
    """The indices, among the repeated trials, of those with held-out metrics."""
    if recorded.measured is None:
        return []
    return [recorded.repeated.index(each.trial) for each in recorded.measured.candidates if each.trial is not None]


def compare(recorded: RecordedRun, study: RecordedStudy, whole: bool) -> Reproduction:
    """Compares the recorded metrics with those of the new study."""
    now = {trial.number: trial for trial in study.trials}
    numbers = (
        {number: number for number in recorded.trials}
        if whole
        else {number: place for place, number in enumerate(recorded.repeated)}
    )
    rounding = kl_rounding(study.record.dtype, recorded.settings.get("quantization", "none") != "none")
    metrics = compare_baselines(recorded.baseline, study.baseline, rounding)
    for number, place in numbers.items():
        metrics += list(_compared(recorded.trials[number], now.get(place), recorded.baseline, rounding))
    if recorded.measured is not None:
        metrics += compare_measured(recorded.measured, read_heldout_report(study.path), numbers)
    present = versions() | (hardware() if recorded.hardware else {})
    return Reproduction(
        source=recorded.source,
        study=str(study.path),
        whole=whole,
        metrics=metrics,
        differences=differences({**recorded.versions, **recorded.hardware}, present),
        not_repeated=list(recorded.others),
    )


def _compared(
    trial: TrialRecord, found: TrialRecord | None, baseline: BaselineRecord, rounding: Rounding
) -> Iterator[ComparedMetric]:
    """The metrics of a trial; without new ones if the search drew another candidate under its number, or pruned it."""
    same = found is not None and same_parameters(found, trial) and (trial.pruned or not found.pruned)
    yield from compare_trial(trial, found if same else None, baseline, rounding)


def first_difference(reproduction: Reproduction) -> str | None:
    """The first trial that is another candidate than recorded, if there is one."""
    missing = (each for each in reproduction.metrics if each.metric.endswith("(search)") and each.now is None)
    return next((each.subject for each in missing), None)


def _plan(
    recorded: RecordedRun, whole: bool, journal: Path, settings: ModelSettings, own: Sequence[JudgeSource]
) -> str:
    """The plan of the run: its trials, model and prompts, and the judges that receive responses."""
    what = f"its search of {recorded.n_trials} trials" if whole else f"{len(recorded.repeated)} recorded trials of it"
    revision = f" (revision {settings.model_commit!r})" if settings.model_commit else ""
    sets = ", ".join(f"{name} from {str(each.source.get('dataset'))!r}" for name, each in recorded.prompts.items())
    judges = "".join(f" Its responses go to your judge {judge.name!r}." for judge in own)
    return (
        f"Running {recorded.source} again: {what}, in {journal}. It names the model {str(settings.model)!r}{revision} "
        f"and the prompts {sets}.{judges}"
    )
