"""The last lines of a run: what happened, and the commands for the next step."""

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from ..config import Settings
from ..export.formats.registry import find_format
from ..report.text import metrics_text
from ..session.context import RunningStudy, Session
from ..study.pareto import knee, pareto_front
from ..ui.flags import default_output

DIRECTORY: Path = Settings.model_fields["study_checkpoint_dir"].default
"""Where commands look for studies by default."""

WIDTH = 80
"""Columns of a usual terminal."""


def say_ending(running: RunningStudy, written: Sequence[tuple[int, str, Path]], asks: bool) -> None:
    """Says what happened; after a run without questions, also the commands for its study.

    `written` has the exports of the run: trial, format, directory.
    """
    study, reporter = running.study, running.reporter
    baseline = study.record.baseline
    front = pareto_front(study.trials, baseline)
    session = running.loaded.session
    if front and not asks:
        chosen = knee(front, baseline).number if not written else written[-1][0]
        _say_commands(session, chosen, written)
    counted = f"{study.n_finished()} trials, {len(front)} of them on the front"
    if not written:
        best = knee(front, baseline) if front else None
        shown = "" if best is None else f"; the knee is trial {best.number} ({metrics_text(best, baseline)})"
        reporter.say(f"Done: {counted}{shown}. The study is {session.path}.")
        return
    number, form, directory = written[-1]
    trial = next(each for each in study.trials if each.number == number)
    reporter.say(
        f"Done: {counted}. Trial {number} ({metrics_text(trial, baseline)}) is written as {find_format(form).label} to "
        f"{directory}."
    )


def _say_commands(session: Session, trial: int, written: Sequence[tuple[int, str, Path]]) -> None:
    model = str(session.settings.model)
    name = model if session.settings.study_checkpoint_dir == DIRECTORY else str(session.path)
    study = shlex.quote(name)
    lines = [] if written else [(f"export {study} --trial {trial}", f"write it to {default_output(model)}")]
    lines += [
        (f"chat {study} --trial {trial}", "talk to it"),
        (f"compare {study} --trial {trial}", "its answers next to the baseline's"),
        (f"report {study}", "a web page about the study"),
    ]
    if written:
        directory = shlex.quote(str(written[-1][2]))
        lines += [(f"upload {directory} OWNER/NAME", "share it, privately unless --public")]
    session.reporter.say("Next:")
    for command, what in lines:
        line = f"  {program()} {command}"
        # A command that a terminal breaks can't be copied.
        if len(line) + len(what) + 6 > WIDTH:
            session.reporter.say(f"  # {what}")
            session.reporter.say(line)
        else:
            session.reporter.say(f"{line}    # {what}")


def program() -> str:
    """The command that runs this program in this shell: its name, or the path it was started by if PATH has no such
    name (`.venv/bin/heretic`, in an environment that is not active)."""
    started = Path(sys.argv[0])
    name = started.name if started.name in ("heretic", "heretic-lab") else "heretic"
    return shlex.quote(str(started)) if started.name == name and shutil.which(name) is None else name
