"""The answers that flags give in a run without questions."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ..config import ExportSettings
from ..events import Action, FormatChoice, Partner, ResumeChoice
from ..study.pareto import select
from ..study.schema import BaselineRecord, TrialRecord


class FlagChooser:
    """Continues a recorded study, then exports the trial that the flags name, once."""

    asks = False

    def __init__(self, settings: ExportSettings, resume: str | None, model: str) -> None:
        self._settings = settings
        self._resume = resume
        self._model = model
        self._done = False

    def resume(self, finished: int, wanted: int, path: str) -> ResumeChoice:
        return "restart" if self._resume == "restart" else "continue"

    def offer(self, formats: Sequence[FormatChoice]) -> None:
        raise AssertionError("flags name a format themselves")

    def next_action(self, front: Sequence[TrialRecord], baseline: BaselineRecord) -> Action:
        settings = self._settings
        export = settings.wanted
        if self._done or export is None:
            return Action("leave")
        self._done = True
        trial = select(front, baseline, settings.trial if settings.trial is not None else "knee")
        output = str(settings.output or default_output(self._model))
        if settings.upload is None:
            return Action("save", trial, export, output)
        return Action("upload", trial, export, output, repository=settings.upload, public=settings.upload_public)

    def chat(self, partner: Partner, title: str) -> None:
        raise AssertionError("flags never choose a chat")

    def compare(self, names: Sequence[str], ask: Callable[[str], list[str]]) -> None:
        raise AssertionError("flags never choose a comparison")


def default_output(model: str) -> str:
    """The default name of an export: the model's name, followed by -heretic."""
    name = Path(model).name
    if name in ("", ".."):
        name = Path(model).resolve().name
    return f"{name.removesuffix('.gguf')}-heretic"
