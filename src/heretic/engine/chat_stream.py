"""A conversation with one edited model, token by token."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from ..ablation.edit import ModelEdit
from ..errors import PromptError
from ..model.hooks.edits import edited_model
from ..prompts.prompt import Prompt
from .decoding import end_tokens
from .local import LocalEngine
from .sampling import Sampling, choose


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side said."""

    role: Literal["user", "assistant"]
    text: str


@dataclass
class _Seen:
    """The tokens that a cache holds."""

    cache: Any
    tokens: list[int] = field(default_factory=list)


class ResponseStream:
    """Responses of an engine's model under one edit, as text that grows.

    The cache of one response serves the next wherever the conversation, rendered anew, begins with the same tokens.
    """

    def __init__(self, engine: LocalEngine, edit: ModelEdit, generator: torch.Generator) -> None:
        self._loaded = engine.loaded
        self._chat = engine.chat
        self._forward = engine.forward
        self._edit = edit
        self._generator = generator
        self._seen: _Seen | None = None
        self._end = set(end_tokens(engine.loaded.model, engine.chat.tokenizer))

    def generate(
        self, turns: Sequence[Turn], system: str | None, sampling: Sampling, max_new_tokens: int
    ) -> Iterator[str]:
        """Pieces of the response to the last turn, a user's.

        `system` None is the run's system prompt, "" is none.

        Raises:
            PromptError: the conversation fills the model's context.
        """
        tokens = self._tokens(turns, system)
        room = self._room(len(tokens), max_new_tokens)
        response: list[int] = []
        shown = ""
        with edited_model(self._loaded.model, [self._edit], self._loaded.sites):
            for token in self._generate(tokens, room, sampling):
                response.append(token)
                [text] = self._chat.decode([response])
                # A character of several tokens shows as U+FFFD until its last one is there.
                if not text.endswith("\ufffd") and text.startswith(shown):
                    yield text[len(shown) :]
                    shown = text
        if response:
            [text] = self._chat.decode([response])
            yield text[len(shown) :]

    def _tokens(self, turns: Sequence[Turn], system: str | None) -> list[int]:
        """The whole conversation up to where the response begins."""
        messages = self._chat.messages(Prompt(turns[0].text, system))
        messages += [{"role": turn.role, "content": turn.text} for turn in turns[1:]]
        return self._chat.encode(self._chat.render_messages(messages) + self._chat.response_prefix)

    def _room(self, n_tokens: int, max_new_tokens: int) -> int:
        context = self._loaded.context_length
        if context is None:
            return max_new_tokens
        if n_tokens >= context:
            raise PromptError(
                f"Expected a conversation that leaves room in this model's context of {context} tokens, but it has "
                f"{n_tokens}. Begin a new one."
            )
        return min(max_new_tokens, context - n_tokens)

    def _generate(self, tokens: list[int], room: int, sampling: Sampling) -> Iterator[int]:
        """Tokens after `tokens`, at most `room`, up to an end of text."""
        seen, new = self._begin(tokens)
        for _ in range(room):
            token = choose(self._logits(seen, new), sampling, self._generator)
            # Set only between forwards: one that is interrupted leaves a cache that fits nothing.
            self._seen = seen
            if token in self._end:
                return
            yield token
            self._seen = None
            new = [token]

    def _begin(self, tokens: list[int]) -> tuple[_Seen, list[int]]:
        """A cache, and the tokens that it still lacks."""
        from transformers import DynamicCache

        seen, self._seen = self._seen, None
        if seen is not None and len(seen.tokens) < len(tokens) and tokens[: len(seen.tokens)] == seen.tokens:
            return seen, tokens[len(seen.tokens) :]
        model: Any = self._loaded.model
        return _Seen(DynamicCache(config=model.config)), tokens

    @torch.inference_mode()
    def _logits(self, seen: _Seen, new: list[int]) -> Tensor:
        """Logits after the last of `new`, (vocab,) fp32 on the CPU."""
        seen.tokens += new
        device = self._loaded.device
        ids = torch.tensor([new], device=device)
        mask = torch.ones(1, len(seen.tokens), dtype=torch.long, device=device)
        return self._forward(ids, mask, seen.cache)[0].float().cpu()
