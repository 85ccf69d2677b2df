"""Searches, results, answers and exports from Python, made for notebooks: it asks no questions.

from heretic import search

study = search("path/to/model")
study.front()
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import load_settings
from .config.types import ExportName
from .events import Reporter
from .study.pareto import knee, pareto_front
from .study.reader import RecordedStudy
from .study.schema import StudyRecord, TrialRecord

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from .commands.chat import Conversation
    from .session.context import LoadedStudy

Trial = TrialRecord | int | str
"""A trial, its number, or a rule that picks it from the Pareto front: knee, lowest-kl, lowest-refusals."""


class Study:
    """A recorded study: its trials, and its model under any of their edits.

    The model is loaded when it is first needed, and stays loaded. Methods that need it raise what `open` raises; those
    that take a trial raise StudyError where there is no such trial. All of these are UserErrors.
    """

    def __init__(self, path: Path, reporter: Reporter, **settings: Any) -> None:
        self._recorded = RecordedStudy(path)
        self._reporter = reporter
        self._given = settings
        self._opened: LoadedStudy | None = None

    def __repr__(self) -> str:
        return f"<heretic study of {self.record.model}: {len(self.trials)} trials, {self.path}>"

    @property
    def path(self) -> Path:
        """The study's journal, a .jsonl file."""
        return self._recorded.path

    @property
    def record(self) -> StudyRecord:
        """Model, prompts, settings, baseline and versions of the study."""
        return self._recorded.record

    @property
    def trials(self) -> list[TrialRecord]:
        """Complete trials in order, read again from the journal, which another process may be extending."""
        self._recorded = RecordedStudy(self.path)
        return self._recorded.trials

    @property
    def knee(self) -> TrialRecord:
        """The knee of the Pareto front: the trial that is exported by default.

        Raises:
            StudyError: no trial is complete yet.
        """
        return self.trial("knee")

    def trial(self, wanted: Trial) -> TrialRecord:
        """Any complete trial by its number, also one that is not on the front, or the one that a rule names.

        Raises:
            StudyError: there is no such trial.
        """
        from .session.recorded import find_trial

        return wanted if isinstance(wanted, TrialRecord) else find_trial(self._recorded, wanted)

    def frame(self) -> "pd.DataFrame":
        """All complete trials, one per row, by number: metrics, whether on the front, whether pruned, parameters.

        `refusals` is a count of prompts, with its 95 % Wilson interval in `refusals_low` and `refusals_high`;
        `kl_divergence` is in nats. Of a pruned trial `refusals` is a lower bound.

        Raises:
            ConfigError: pandas is not installed.
        """
        from .report.frames import trials_frame

        return trials_frame(self.trials, self.record.baseline)

    def front(self) -> "pd.DataFrame":
        """The rows of `frame` that are on the Pareto front, fewest refusals first.

        Raises:
            ConfigError: pandas is not installed.
        """
        frame = self.frame()
        order = [trial.number for trial in pareto_front(self.trials, self.record.baseline)]
        return frame.loc[order]

    def plot(self) -> "go.Figure":
        """All fully evaluated trials and the front, refusals against KL divergence (nats); shows itself in a notebook.

        Raises:
            ConfigError: plotly or pandas is not installed.
        """
        from .report.frames import front_figure

        front = pareto_front(self.trials, self.record.baseline)
        best = knee(front, self.record.baseline) if front else None
        return front_figure(self.frame(), best, self.record.baseline)

    def ask(self, prompt: str, trial: Trial | None = "knee", max_tokens: int = 200) -> str:
        """The greedy answer of a trial, or of the baseline for None, of at most `max_tokens` tokens.

        The prompt is the user's message; the study's system prompt and chat template are added. An answer that reaches
        the limit ends with " ...".
        """
        return self.compare(prompt, [trial], max_tokens)[0]

    def compare(self, prompt: str, trials: "list[Trial | None]", max_tokens: int = 200) -> list[str]:
        """The greedy answers of several trials, in their order and in one batch, as `ask` gives them."""
        from .commands.compare import Comparison

        opened = self.open()
        edits = [opened.edit(None if trial is None else self.trial(trial)) for trial in trials]
        return Comparison(opened.engine, edits, max_tokens).ask(prompt)

    def chat(self, trial: Trial | None = "knee") -> "Conversation":
        """A conversation with a trial, or with the baseline for None: `"".join(chat.reply("Hello"))`.

        It is greedy until `chat.use_sampling(temperature=0.7)`; `chat.reset()` begins a new conversation.
        """
        from .commands.chat import conversation

        opened = self.open()
        return conversation(opened.engine, opened.edit(None if trial is None else self.trial(trial)), opened.settings)

    def open(self) -> "LoadedStudy":
        """The study with its model loaded, as the search loaded it.

        Raises:
            ModelError: the model can't be loaded, or needs code that you have not allowed to run.
            ExportError: the model's files have changed since.
            StudyError: the study's directions are missing, or its record is damaged.
            ConfigError: a setting can't be used.
        """
        from .session.recorded import load_study

        if self._opened is None:
            self._opened = load_study(self._recorded, load_settings(self._given)[0], self._reporter)
        return self._opened

    def save(self, output: str | Path, trial: Trial = "knee", export: ExportName = "merge") -> Path:
        """Exports a trial, loads the written model and measures it; returns its directory.

        `export` is merge (a whole model), adapter (LoRA or DoRA, for PEFT) or gguf. If it fails, nothing is left.

        Raises:
            ExportError: `output` exists, the model can't be written, or its metrics differ from the recorded ones.
            PromptError: the study's prompts are missing or have changed.
        """
        from .commands.export import export_trial

        chosen = self.trial(trial).number
        given = {**self._given, "trial": chosen, "export": export, "output": str(output), "upload": None}
        export_trial(self._recorded, load_settings(given)[0], self._reporter)
        return Path(output)

    def upload(self, directory: str | Path, repository: str, public: bool = False) -> None:
        """Uploads an export to the Hugging Face hub, with the token of the environment or of `hf auth login`.

        `repository` is OWNER/NAME. A new one is private unless `public`; one that exists keeps its visibility.

        Raises:
            ExportError: it can't be uploaded; the repository's files are as they were.
        """
        from .commands.upload import upload_directory

        upload_directory(Path(directory), repository, public, self._reporter)


def search(model: str | Path, reporter: Reporter | None = None, **settings: Any) -> Study:
    """Searches for edits of `model`, or continues its recorded study; returns the study, also after Ctrl+C.

    `model` is a directory, a hub id or a .gguf file. `settings` are the keys of config.default.toml; config.toml and
    HERETIC_ variables apply as on the command line. By default eight edits are learned. Nothing is exported unless
    `export`, `output` or `upload` is given.

    Raises:
        UserError: a setting or an input has to change; all recorded trials stay.
    """
    from .commands.run import run
    from .session.config_file import settle_found_file
    from .study.journal import study_path
    from .ui.flags import FlagChooser

    given = {key: str(value) if isinstance(value, Path) else value for key, value in settings.items()}
    read, warnings = load_settings({"resume": "continue", **given, "model": str(model)})
    reporter = reporter or default_reporter()
    for warning in warnings:
        reporter.warn(warning)
    settle_found_file(given, reporter)
    run(read, FlagChooser(read, read.resume, str(read.model)), reporter)
    return Study(study_path(read.study_checkpoint_dir, str(read.model)), reporter, **given)


def open_study(study: str | Path, reporter: Reporter | None = None, **settings: Any) -> Study:
    """A recorded study, named by its .jsonl file or by its model. It loads nothing yet.

    `settings` are those of a search that may still be chosen: where studies are (`study_checkpoint_dir`), devices,
    permissions. The study's record decides the others.

    Raises:
        StudyError: there is no such study.
        ConfigError: a setting can't be used.
    """
    from .session.config_file import settle_found_file
    from .study.find import find_study

    read, _ = load_settings(settings)
    reporter = reporter or default_reporter()
    settle_found_file(settings, reporter)
    found = find_study(str(study), read.study_checkpoint_dir)
    return Study(found.path, reporter, **settings)


def default_reporter() -> Reporter:
    """Progress bars inside the cell in a notebook; lines of text elsewhere."""
    from .ui.notebook import NotebookReporter, in_notebook
    from .ui.plain import PlainReporter

    return NotebookReporter() if in_notebook() else PlainReporter(sys.stderr)
