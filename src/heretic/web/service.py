"""The data of the page: recorded trials, answers of one loaded model, exports."""

import io
import queue
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO, cast

import torch

from ..commands.chat import opening_of
from ..commands.compare import Comparison
from ..commands.export import export_trial
from ..config import ExportName, Settings
from ..config.changes import changed
from ..engine.chat_stream import ResponseStream, Turn
from ..engine.sampling import Sampling
from ..errors import StudyError, UserError
from ..evaluation.heldout.schema import BAD, ModelMetrics
from ..events import Reporter
from ..export.formats.base import ExportFormat
from ..export.formats.registry import FORMATS
from ..session.context import LoadedStudy
from ..session.expected_method import recorded_method
from ..session.recorded import checkpoint_of, find_trial, load_study, recorded_prompts, recorded_sites
from ..session.save import formats_for, normalization_of
from ..session.sidecars import read_heldout_report
from ..study.reader import RecordedStudy
from ..study.schema import BASELINE, TrialRecord
from ..ui.plain import PlainReporter

EXAMPLES = 3
EXAMPLE_TOKENS = 60
EXAMPLE_LETTERS = 400


class StudyService:
    """One study for one page. The journal is read again when it has grown; the model is loaded when it is needed."""

    def __init__(self, path: Path, settings: Settings, reporter: Reporter) -> None:
        self._path = path
        self._settings = settings
        self._reporter = reporter
        # One model, whose edits are hooks: one answer at a time.
        self._model = threading.RLock()
        self._reading = threading.Lock()
        self._opened: LoadedStudy | None = None
        self._streams: dict[str, ResponseStream] = {}
        self._study = RecordedStudy(path)
        self._size = path.stat().st_size

    @property
    def study(self) -> RecordedStudy:
        """The study as recorded now, or as it was before while another process is writing a line."""
        with self._reading:
            size = self._path.stat().st_size
            if size != self._size:
                try:
                    self._study, self._size = RecordedStudy(self._path), size
                except StudyError:
                    pass
            return self._study

    @property
    def n_layers(self) -> int:
        return int(self.study.record.space["last_layer"]) + 1

    def names(self) -> list[str]:
        """The names of the models that can answer: the baseline, and every fully evaluated trial."""
        return [BASELINE, *(f"trial {trial.number}" for trial in self.study.trials if not trial.pruned)]

    def trial(self, name: str) -> TrialRecord | None:
        """The trial of a name; None for the baseline."""
        return None if name == BASELINE else find_trial(self.study, name.removeprefix("trial "))

    def opened(self) -> LoadedStudy:
        with self._model:
            if self._opened is None:
                self._opened = load_study(self.study, self._settings, self._reporter)
            return self._opened

    def reply(
        self, name: str, turns: Sequence[Turn], system: str | None, sampling: Sampling, most_tokens: int
    ) -> Iterator[str]:
        """The answer to the last turn, as it grows."""
        with self._model:
            opened = self.opened()
            stream = self._streams.get(name)
            if stream is None:
                generator = torch.Generator()
                generator.seed()
                stream = ResponseStream(opened.engine, opened.edit(self.trial(name)), generator)
                self._streams[name] = stream
            said = ""
            for piece in stream.generate(turns, system, sampling, most_tokens):
                said = said or opening_of(opened.engine, opened.settings)
                said += piece
                yield said

    def examples(self, trial: TrialRecord) -> list[tuple[str, str, str]]:
        """(prompt, the baseline's answer, the trial's answer): from the held-out evaluation, or generated now."""
        measured = self._measured_examples(trial)
        if measured:
            return measured
        prompts = recorded_prompts(self.study.record).bad_evaluation.prompts[:EXAMPLES]
        with self._model:
            opened = self.opened()
            comparison = Comparison(opened.engine, [{}, opened.edit(trial)], EXAMPLE_TOKENS)
            return [(prompt.text, *comparison.ask(prompt.text)) for prompt in prompts]  # type: ignore[misc]

    def _measured_examples(self, trial: TrialRecord) -> list[tuple[str, str, str]]:
        heldout = read_heldout_report(self._path)
        candidate = next((each for each in heldout.candidates if each.trial == trial.number), None) if heldout else None
        texts = heldout.prompts[BAD].texts if heldout else None
        if heldout is None or candidate is None or texts is None:
            return []
        unedited, edited = _texts(heldout.baseline), _texts(candidate)
        both = [prompt for prompt in unedited if prompt in edited][:EXAMPLES]
        return [(texts[prompt], unedited[prompt], edited[prompt]) for prompt in both]

    def formats(self) -> Sequence[ExportFormat]:
        """The formats that the model can be written in; all, where it is not found now."""
        record = self.study.record
        recorded: dict[str, Any] = {"method": recorded_method(record)}
        recorded |= {key: value for key, value in record.settings.items() if key == "row_normalization"}
        try:
            settings = changed(self._settings, recorded)
            return formats_for(checkpoint_of(record), recorded_sites(record), normalization_of(settings))
        except UserError:
            return FORMATS

    def export(self, trial: TrialRecord, export: ExportName, output: str) -> Iterator[str]:
        """Exports and measures the trial; yields all messages so far after each new one."""
        lines: queue.Queue[str | None] = queue.Queue()
        changes = {"trial": trial.number, "export": export, "output": Path(output), "upload": None}
        settings = changed(self._settings, changes)

        def run() -> None:
            try:
                export_trial(self.study, settings, PlainReporter(cast(TextIO, _Lines(lines))))
            except UserError as error:
                lines.put(f"Not written: {error}")
            finally:
                lines.put(None)

        threading.Thread(target=run, daemon=True).start()
        said: list[str] = []
        while (line := lines.get()) is not None:
            said.append(line)
            yield "\n".join(said)


def _texts(heldout: ModelMetrics) -> dict[int, str]:
    """Responses to the bad held-out prompts by prompt, shortened."""
    return {
        each.prompt: each.text if len(each.text) <= EXAMPLE_LETTERS else f"{each.text[:EXAMPLE_LETTERS]} ..."
        for each in heldout.sets[BAD].responses
        if each.text is not None
    }


class _Lines(io.TextIOBase):
    """A stream whose lines go into a queue."""

    def __init__(self, lines: "queue.Queue[str | None]") -> None:
        self._lines = lines

    def write(self, text: str) -> int:
        if text.strip():
            self._lines.put(text.rstrip("\n"))
        return len(text)
