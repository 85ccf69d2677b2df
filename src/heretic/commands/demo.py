"""The demo: the main job on a small model, with what a newcomer wants to see at the end."""

import shutil
from pathlib import Path

from ..config import Settings
from ..errors import ExportError
from ..events import Reporter
from ..export.manifest import MANIFEST
from ..model.loading.demo_model import demo_model
from ..report.text import duration
from ..ui.flags import FlagChooser
from .run import run

DIRECTORY = Path("demo")


def demo_flags() -> dict[str, str]:
    """What the demo sets where the user does not: fewer trials and a time budget, for two cores."""
    return {
        "preset": "disclaimer",
        "system_prompt": "none",
        "n_trials": "40",
        "n_startup_trials": "15",
        "time_budget": "3m",
        "heldout_trials": "1",
        "study_checkpoint_dir": str(DIRECTORY / "checkpoints"),
        "output": str(DIRECTORY / "SmolLM2-135M-Instruct-heretic"),
        "trial": "knee",
        "export": "merge",
        "resume": "restart",
    }


def run_demo(settings: Settings, reporter: Reporter) -> int:
    """Fetches the model if need be, runs the main job on it without a question, and says where things are."""
    with reporter.step("Fetching SmolLM2-135M-Instruct (98 MB, once)"):
        model = demo_model()
    reporter.say(
        f"The demo searches for at most {duration(settings.time_budget or 0)}, or {settings.n_trials} trials; the "
        "program itself runs 200 trials without a limit. Prompts and response length are the program's own."
    )
    _remove_earlier(settings.output)
    settings = settings.model_copy(update={"model": settings.model or str(model)})
    status = run(settings, FlagChooser(settings, settings.resume, str(settings.model)), reporter)
    if status == 0:
        reporter.say(
            f"The edited model is in {settings.output}. README.md says how to measure it on prompts that the search "
            "never saw."
        )
    return status


def _remove_earlier(output: Path | None) -> None:
    """Makes room for the demo's model, if what is there is an earlier demo's.

    Raises:
        ExportError: something else is there.
    """
    if output is None or not output.exists():
        return
    if not (output / MANIFEST).exists():
        raise ExportError(f"{output} is in the way and is no earlier demo's model. Move it, or give another --output.")
    shutil.rmtree(output)
