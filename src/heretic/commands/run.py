"""The main job: from a model's name to a chosen trial on disk. Here: what is checked before any work."""

from pathlib import Path

from ..config import Settings
from ..errors import ConfigError
from ..events import Chooser, Reporter
from ..export.directory import check_output
from ..model.loading.checkpoint import find_checkpoint
from ..session.prompts import load_report_part, load_run_prompts
from ..session.remote_code import settle_trust
from ..session.residual_plots import check_plots
from ..session.save import check_export
from ..session.start import FixedCandidates
from ..study.journal import SingleWriter, repair, set_aside, study_path
from ..study.reader import RecordedStudy, has_record
from .run_job import Job
from .upload import check_upload


def run(settings: Settings, chooser: Chooser, reporter: Reporter, prescribed: FixedCandidates | None = None) -> int:
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
        searching = _settle_existing(path, settings, chooser, reporter)
        prompts = load_run_prompts(settings)
        part = load_report_part(settings, prompts)
        if part is None and settings.heldout_trials:
            reporter.say("Nothing is measured at the end: good_heldout_prompts and bad_heldout_prompts are not given.")
        checkpoint = find_checkpoint(settings.model, settings.model_commit)
        check_export(settings, checkpoint)
        settings = settle_trust(settings, checkpoint, reporter)
        job = Job(settings, path, prompts, part, checkpoint, chooser, reporter, prescribed)
        return job.run(writer, searching)


def _settle_existing(path: Path, settings: Settings, chooser: Chooser, reporter: Reporter) -> bool:
    """What becomes of a study that is there already: whether to search before anything is shown."""
    if not path.exists():
        return True
    if settings.resume == "restart":
        reporter.say(f"The study that was there is kept as {set_aside(path)}.")
        return True
    cut = repair(path)
    if cut:
        reporter.warn(f"The last line of {path} was unfinished, as after a kill; its {cut} bytes were cut off.")
    if not has_record(path):
        return True
    finished = len(RecordedStudy(path).trials)
    choice = chooser.resume(finished, settings.n_trials, str(path))
    if choice == "restart":
        reporter.say(f"The study that was there is kept as {set_aside(path)}.")
        return True
    if choice == "continue":
        reporter.say(f"Resuming {path}: {finished} of {settings.n_trials} trials are done.")
    return choice == "continue"
