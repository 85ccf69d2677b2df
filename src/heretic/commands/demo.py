"""The demo: the search on a small model, for a first impression."""

import itertools
import os
from pathlib import Path

from ..config import Settings
from ..config.changes import changed
from ..events import Reporter
from ..export.directory import check_output
from ..model.loading.demo_model import demo_model, demo_model_path
from ..report.text import duration
from ..ui.flags import FlagChooser
from .run import run

DIRECTORY = Path("demo")
OUTPUT = DIRECTORY / "SmolLM2-135M-Instruct-heretic"


def demo_flags() -> dict[str, str]:
    """Settings of the demo that the user may override: a time budget, for two cores."""
    return {
        "preset": "disclaimer",
        "system_prompt": "none",
        "method": "auto",
        "time_budget": "7m",
        "heldout_trials": "1",
        "study_checkpoint_dir": str(DIRECTORY / "checkpoints"),
        "output": str(OUTPUT),
        "trial": "knee",
        "export": "merge",
        "resume": "restart",
    }


def run_demo(settings: Settings, reporter: Reporter) -> int:
    """Fetches the model if need be, searches without questions, and says where the edited model is."""
    settings = changed(settings, {"output": _free_output(settings.output)})
    model = settings.model or str(_fetched(reporter))
    reporter.say(
        f"The demo learns edits for {duration(settings.time_budget or 0)} at most. A normal search has no time limit, "
        "and the same prompts and response length."
    )
    settings = changed(settings, {"model": model})
    return run(settings, FlagChooser(settings, settings.resume, str(settings.model)), reporter)


def _fetched(reporter: Reporter) -> Path:
    """The demo's model, from the user's cache if it is there."""
    if demo_model_path().exists():
        return demo_model_path()
    with reporter.step("Fetching SmolLM2-135M-Instruct (98 MB, once)"):
        return demo_model()


def _free_output(output: Path | None) -> Path:
    """The directory to write to: the given one, or the first of the demo's own names that is free.

    Raises:
        ExportError: the given one exists.
    """
    if output not in (None, OUTPUT):
        assert output is not None
        check_output(output)
        return output
    names = (OUTPUT.with_name(f"{OUTPUT.name}-{number}") for number in itertools.count(2))
    return next(path for path in itertools.chain([OUTPUT], names) if not os.path.lexists(path))
