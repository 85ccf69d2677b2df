"""A chat with a trial: of the running study, or of a recorded one."""

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import torch

from ..ablation.edit import ModelEdit
from ..config import EvaluationSettings, Settings
from ..engine.chat_stream import ResponseStream, Turn
from ..engine.local import LocalEngine
from ..engine.sampling import GREEDY
from ..evaluation.prefix import spoken
from ..events import Reporter
from ..session.recorded import find_trial, open_study
from ..study.reader import RecordedStudy
from ..study.schema import BASELINE, TrialRecord
from ..ui.chat import ChatOptions, lines_of_stdin, talk

MOST_TOKENS = 4096
"""Where a response that does not end is ended."""


class Conversation:
    """What was said so far, and who goes on with it."""

    def __init__(self, stream: ResponseStream, opening: str, generator: torch.Generator) -> None:
        self._stream = stream
        self._opening = opening
        self._generator = generator
        self._turns: list[Turn] = []
        self._system: str | None = None
        self._sampling = GREEDY
        self._most_tokens = MOST_TOKENS

    def reset(self) -> None:
        self._turns = []

    def use_system_prompt(self, text: str) -> None:
        self._system = text
        self.reset()

    def use_sampling(self, **changes: Any) -> None:
        self._sampling = replace(self._sampling, **changes)

    def use_most_tokens(self, count: int) -> None:
        self._most_tokens = count

    def use_seed(self, seed: int) -> None:
        self._generator.manual_seed(seed)

    def reply(self, text: str) -> Generator[str, None, None]:
        turns = [*self._turns, Turn("user", text)]
        said = ""
        try:
            for piece in self._stream.generate(turns, self._system, self._sampling, self._most_tokens):
                if not said and self._opening:
                    said = self._opening
                    yield self._opening
                said += piece
                yield piece
        finally:
            # Also when it is stopped early: the user saw what was said.
            if said:
                self._turns = [*turns, Turn("assistant", said)]


def conversation(engine: LocalEngine, edit: ModelEdit, settings: EvaluationSettings) -> Conversation:
    """A conversation with the engine's model under `edit`."""
    generator = torch.Generator()
    generator.seed()
    return Conversation(ResponseStream(engine, edit, generator), opening_of(engine, settings), generator)


def opening_of(engine: LocalEngine, settings: EvaluationSettings) -> str:
    """What every answer begins with: the response prefix, behind a closed chain of thought if it begins with one.

    Such a one is no part of what is said, and templates leave it out of earlier turns themselves.
    """
    return spoken(engine.chat.response_prefix, settings.chain_of_thought_skips)


def chat_with(trial: TrialRecord, edit: ModelEdit, engine: LocalEngine, settings: EvaluationSettings) -> None:
    """Lets the user talk to the trial on the terminal."""
    talk(conversation(engine, edit, settings), f"Chat with trial {trial.number}.")


def chat(
    study: RecordedStudy, wanted: str | None, options: ChatOptions, settings: Settings, reporter: Reporter
) -> None:
    """Lets the user talk to a trial of a recorded study, or to the baseline (`wanted` "baseline").

    Raises:
        StudyError: there is no such trial.
        ModelError: the model can't be loaded.
    """
    trial = None if wanted == "baseline" else find_trial(study, wanted)
    opened = open_study(study, settings, reporter)
    partner = conversation(opened.engine, opened.edit(trial), opened.settings)
    options.apply(partner)
    title = f"Chat with the {BASELINE}." if trial is None else f"Chat with trial {trial.number}."
    talk(partner, title, lines_of_stdin())
