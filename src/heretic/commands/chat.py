"""A chat with a trial or with the baseline."""

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

import torch

from ..ablation.edit import ModelEdit
from ..config import EvaluationSettings
from ..engine.chat_stream import ResponseStream, Turn
from ..engine.local import LocalEngine
from ..engine.sampling import GREEDY
from ..evaluation.prefix import spoken
from ..session.context import LoadedStudy
from ..study.schema import BASELINE, TrialRecord

MAX_TOKENS = 4096
"""Default maximum length of a response."""


class Conversation:
    """A conversation with one model: its turns, its sampling, and the stream that generates the next response."""

    def __init__(self, stream: ResponseStream, opening: str, generator: torch.Generator) -> None:
        self._stream = stream
        self._opening = opening
        self._generator = generator
        self._turns: list[Turn] = []
        self._system: str | None = None
        self._sampling = GREEDY
        self._max_tokens = MAX_TOKENS

    def reset(self) -> None:
        """Begins a new conversation, with the same system prompt and sampling."""
        self._turns = []

    def use_system_prompt(self, text: str) -> bool:
        """Sets the system prompt ("" for none) and begins a new conversation.

        Returns whether it goes before the user's text, since the chat template takes no system message.
        """
        self._system = text
        self.reset()
        return self._stream.folds(text)

    def use_sampling(self, **changes: Any) -> None:
        """Changes `temperature` (0, the default: greedy), `top_p` (1: all tokens) or `top_k` (0: all tokens)."""
        self._sampling = replace(self._sampling, **changes)

    def use_most_tokens(self, count: int) -> None:
        """Sets the maximum length of a response, in tokens."""
        self._max_tokens = count

    def use_seed(self, seed: int) -> None:
        """Seeds the sampling of the next response; without it, each conversation has a random seed."""
        self._generator.manual_seed(seed)

    def reply(self, text: str) -> Generator[str, None, None]:
        """The response to the user's `text`, piece by piece as it is generated.

        The turn is added to the conversation when the generator ends or is closed, with the pieces so far.
        """
        turns = [*self._turns, Turn("user", text)]
        answer = ""
        try:
            for piece in self._stream.generate(turns, self._system, self._sampling, self._max_tokens):
                if not answer and self._opening:
                    answer = self._opening
                    yield self._opening
                answer += piece
                yield piece
        finally:
            # Also after an early stop: the user saw that part of the response.
            if answer:
                self._turns = [*turns, Turn("assistant", answer)]


Screen = Callable[[Conversation, str], None]
"""Shows a conversation under a title until the user leaves."""


def conversation(engine: LocalEngine, edit: ModelEdit, settings: EvaluationSettings) -> Conversation:
    """A conversation with the engine's model under `edit`."""
    generator = torch.Generator()
    generator.seed()
    return Conversation(ResponseStream(engine, edit, generator), opening_of(engine, settings), generator)


def opening_of(engine: LocalEngine, settings: EvaluationSettings) -> str:
    """The text that every answer begins with: the response prefix, without the closed chain of thought at its start.

    A chain of thought is not part of an answer, and templates leave it out of earlier turns.
    """
    return spoken(engine.chat.response_prefix, settings.chain_of_thought_skips)


def chat(loaded: LoadedStudy, trial: TrialRecord | None, screen: Screen) -> None:
    """Opens the screen with a conversation with the trial, or with the baseline for None."""
    title = f"Chat with the {BASELINE}." if trial is None else f"Chat with trial {trial.number}."
    screen(conversation(loaded.engine, loaded.edit(trial), loaded.settings), title)
