"""A chat with one trial of the running study."""

from collections.abc import Generator

import torch

from ..ablation.edit import ModelEdit
from ..config import EvaluationSettings
from ..engine.local import LocalEngine
from ..engine.streaming import ResponseStream, Turn
from ..study.records import TrialRecord

MOST_TOKENS = 4096
"""Where a response that does not end is ended."""


class Conversation:
    """What was said so far, and who goes on with it."""

    def __init__(self, stream: ResponseStream, opening: str) -> None:
        self._stream = stream
        self._opening = opening
        self._turns: list[Turn] = []
        self._system: str | None = None
        self._temperature = 0.0

    def reset(self) -> None:
        self._turns = []

    def use_system_prompt(self, text: str) -> None:
        self._system = text
        self.reset()

    def use_temperature(self, temperature: float) -> None:
        self._temperature = temperature

    def reply(self, text: str) -> Generator[str, None, None]:
        turns = [*self._turns, Turn("user", text)]
        said = ""
        try:
            for piece in self._stream.respond(turns, self._system, self._temperature, MOST_TOKENS):
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
    prefix = engine.chat.response_prefix
    # A closed chain of thought is no part of what is said, and templates leave it out of earlier turns themselves.
    opening = "" if prefix in [closed for _, closed in settings.chain_of_thought_skips] else prefix
    generator = torch.Generator()
    generator.seed()
    return Conversation(ResponseStream(engine.loaded, engine.chat, edit, generator), opening)


def chat_with(trial: TrialRecord, edit: ModelEdit, engine: LocalEngine, settings: EvaluationSettings) -> None:
    """Lets the user talk to the trial on the terminal."""
    from ..ui.chat import talk

    talk(conversation(engine, edit, settings), f"Chat with trial {trial.number}.")
