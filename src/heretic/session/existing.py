"""A study that exists before a run begins: on this machine, or in a storage that other runs share."""

from pathlib import Path

from ..config import SearchSettings
from ..config.types import MethodChoice
from ..errors import ConfigError
from ..events import Chooser, Reporter
from ..study.history import failures
from ..study.journal import repair, set_aside
from ..study.reader import RecordedStudy, has_record
from ..study.shared import COPY, SharedStorage
from .expected_method import recorded_method
from .learning import wanted_candidates


def settle_existing(path: Path, settings: SearchSettings, chooser: Chooser, reporter: Reporter) -> bool:
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
    study = RecordedStudy(path)
    finished = _n_finished(study)
    wanted = wanted_candidates(recorded_method(study.record), settings.n_trials)
    choice = chooser.resume(finished, wanted, str(path))
    if choice == "restart":
        reporter.say(f"The earlier study is kept as {set_aside(path)}.")
        return True
    if choice == "continue":
        reporter.say(f"Resuming {path}: {finished} of {wanted} trials are done.")
    return choice == "continue"


def join_shared(
    settings: SearchSettings, storage: str | None, method: MethodChoice, path: Path, reporter: Reporter
) -> SharedStorage | None:
    """The study in a `storage` that runs share, with a copy at `path` if it was begun; None without a storage.

    Raises:
        ConfigError: a shared study can't be restarted, and its candidates can't be learned.
        StudyError: the storage can't be reached.
    """
    if storage is None:
        return None
    if settings.resume == "restart":
        raise ConfigError(
            "Expected a study of this machine for --resume restart, got storage: other runs may be using that study. "
            "Name another storage, or leave --resume out to join it."
        )
    if method == "learned":
        raise ConfigError(
            "Expected method kernel or oblique with storage, got learned: each step of a path follows from the one "
            "before, so other runs would wait. Leave storage out; with --ray all machines of a cluster share the steps."
        )
    shared = SharedStorage(storage, path.stem.removesuffix(COPY))
    shared.join(reporter.say)
    if shared.copy_here(path):
        finished = _n_finished(RecordedStudy(path))
        reporter.say(
            f"Joining the study {shared.name} in {shared.shown}: {finished} of {settings.n_trials} trials are done."
        )
    else:
        reporter.say(f"Beginning the study {shared.name} in {shared.shown}.")
    return shared


def _n_finished(study: RecordedStudy) -> int:
    """Trials that a search need not run: complete, or failed with a reason."""
    return len(study.trials) + len(failures(study))
