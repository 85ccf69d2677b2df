"""Exports a trial of a recorded study."""

from pathlib import Path

from ..config import Settings
from ..evaluation.evaluator import Baseline
from ..events import Reporter
from ..export.directory import check_output
from ..export.formats.registry import find_format
from ..session.context import Session
from ..session.engine import make_evaluator, release
from ..session.recorded import find_trial, load_engine, open_session, recorded_prompts, recorded_sites
from ..session.save import ExportTarget, check_export, normalization_of, save_trial
from ..study.reader import RecordedStudy
from ..study.schema import StudyRecord
from ..ui.flags import default_output
from .upload import check_upload, upload_directory


def export_trial(study: RecordedStudy, settings: Settings, reporter: Reporter) -> int:
    """Writes the trial that `settings.trial` names (the knee by default; any complete trial by its number).

    Raises:
        StudyError: there is no such trial.
        ExportError: it can't be written, or its metrics differ from the recorded ones.
    """
    trial = find_trial(study, settings.trial)
    target = ExportTarget(
        find_format(settings.export or "merge"), Path(settings.output or default_output(study.record.model))
    )
    check_output(target.output)
    if settings.upload is not None:
        check_upload(settings.upload)
    session = open_session(study, settings, reporter, recorded_prompts(study.record))
    check_export(session, target.form)
    target.form.check_layout(recorded_sites(study.record), normalization_of(session.settings))
    save_trial(session, trial, target, _baseline(session, study.record))
    if settings.upload is not None:
        upload_directory(target.output, settings.upload, settings.upload_public, reporter)
    return 0


def _baseline(session: Session, record: StudyRecord) -> Baseline:
    """The recorded baseline with its log-probabilities measured again; frees the model's memory afterwards."""
    engine = load_engine(session, record)
    with session.reporter.step("Baseline", len(session.prompts.good_evaluation)) as progress:
        baseline = make_evaluator(engine, session.settings, session.prompts).baseline(progress, record.baseline)
    release(engine)
    return baseline
