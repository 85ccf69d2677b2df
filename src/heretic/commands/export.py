"""Exporting from a recorded study, long after its search."""

from pathlib import Path

from ..config import PromptSource, Settings
from ..errors import PromptError
from ..events import Reporter
from ..export.directory import check_output
from ..export.formats.registry import find_format
from ..prompts.loading import load_prompts
from ..session.directions import read_tensors
from ..session.engine import make_evaluator, open_engine, release
from ..session.heldout_sidecar import read_figures
from ..session.prompts import OVER_REFUSAL_EVALUATION, RunPrompts
from ..session.recorded import find_trial, runtime_of
from ..session.remote_code import settle_trust
from ..session.save import Verification, check_export, checkpoint_of, save_trial
from ..study.journal import tensors_path
from ..study.reader import RecordedStudy
from ..study.schema import StudyRecord
from ..ui.flags import default_output
from .upload import check_upload, upload_directory


def export_trial(study: RecordedStudy, settings: Settings, reporter: Reporter) -> int:
    """Writes the trial that `settings.trial` names (the knee by default; any complete trial by its number).

    Raises:
        StudyError: there is no such trial.
        ExportError: it can't be written, or does not measure as recorded.
    """
    record = study.record
    trial = find_trial(study, settings.trial)
    form = find_format(settings.export or "merge")
    output = Path(settings.output or default_output(record.model))
    check_output(output)
    if settings.upload is not None:
        check_upload(settings.upload)
    checkpoint = checkpoint_of(record)
    check_export(settings.model_copy(update={"export": form.name}), checkpoint)
    prompts = recorded_prompts(record)
    settings = settings.model_copy(update=record.settings | {"max_shard_size": settings.max_shard_size})
    known = runtime_of(record)
    settings = settle_trust(settings, checkpoint, reporter)
    engine = open_engine(checkpoint, settings, prompts.all(), known, reporter)
    with reporter.step("Baseline", len(prompts.good_evaluation)) as progress:
        baseline = make_evaluator(engine, settings, prompts).baseline(progress, record.baseline)
    release(engine)
    tensors = read_tensors(tensors_path(study.path))
    verification, figures = Verification(prompts, baseline, known), read_figures(study.path)
    save_trial(trial, record, tensors, form, output, settings, verification, reporter, figures, study.last_run)
    if settings.upload is not None:
        upload_directory(output, settings.upload, settings.upload_public, reporter)
    return 0


def recorded_prompts(record: StudyRecord) -> RunPrompts:
    """The prompts that the study was run with.

    Raises:
        PromptError: their sources give other prompts now.
    """
    sources = {name: PromptSource(**prompts.source) for name, prompts in record.prompts.items()}
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
