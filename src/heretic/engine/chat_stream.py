"""A conversation with one edited model, token by token."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ..ablation.edit import ModelEdit
from ..errors import PromptError
from ..model.hooks.edits import edited_model
from ..prompts.prompt import Prompt
from .decoding import end_tokens
from .generation_rules import Row
from .kv_cache import KVCache
from .local import LocalEngine
from .sampling import Sampling, choose


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation."""

    role: Literal["user", "assistant"]
    text: str


@dataclass
class _Context:
    """A cache and the tokens that it holds."""

    cache: KVCache
    tokens: list[int] = field(default_factory=list)


class ResponseStream:
    """Responses of an engine's model under one edit, as growing text.

    The cache of one response serves the next one where the conversation, rendered again, begins with the same tokens.
    """

    def __init__(self, engine: LocalEngine, edit: ModelEdit, generator: torch.Generator) -> None:
        self._loaded = engine.loaded
        self._chat = engine.chat
        self._forward = engine.forward
        self._edit = edit
        self._generator = generator
        self._context: _Context | None = None
        self._end_tokens = set(end_tokens(engine.loaded.model, engine.chat.tokenizer))
        self._rules = engine.rules
        self._n_prefix = engine.chat.n_prefix

    def generate(
        self, turns: Sequence[Turn], system: str | None, sampling: Sampling, max_new_tokens: int
    ) -> Iterator[str]:
        """Pieces of the response to the last turn, a user's.

        `system` replaces the run's system prompt (None: keeps it, "": none at all).

        Raises:
            PromptError: the conversation fills the model's context.
        """
        tokens = self._tokens(turns, system)
        limit = self._limit(len(tokens), max_new_tokens)
        response: list[int] = []
        shown = ""
        with edited_model(self._loaded.model, [self._edit], self._loaded.sites):
            for token in self._generate(tokens, limit, sampling):
                response.append(token)
                [text] = self._chat.decode([response])
                # A character of several tokens decodes to U+FFFD until its last token has arrived.
                if not text.endswith("\ufffd") and text.startswith(shown):
                    yield text[len(shown) :]
                    shown = text
        if response:
            [text] = self._chat.decode([response])
            yield text[len(shown) :]

    def folds(self, system: str) -> bool:
        """Whether this system prompt goes before the user's text, since the template takes no such message."""
        return self._chat.folds(system)

    def _tokens(self, turns: Sequence[Turn], system: str | None) -> list[int]:
        """The conversation up to the start of the response."""
        messages = self._chat.messages(Prompt(turns[0].text, system))
        messages += [{"role": turn.role, "content": turn.text} for turn in turns[1:]]
        return self._chat.encode(self._chat.render_messages(messages) + self._chat.response_prefix)

    def _limit(self, n_tokens: int, max_new_tokens: int) -> int:
        """The number of tokens that may follow."""
        context = self._loaded.context_length
        if context is None:
            return max_new_tokens
        if n_tokens >= context:
            raise PromptError(
                f"Expected a conversation shorter than this model's context of {context} tokens, but it has "
                f"{n_tokens}. Begin a new one."
            )
        return min(max_new_tokens, context - n_tokens)

    def _generate(self, tokens: list[int], limit: int, sampling: Sampling) -> Iterator[int]:
        """Tokens after `tokens`, at most `limit`, up to an end of text."""
        context, new = self._reusable_context(tokens)
        response: list[int] = []
        for _ in range(limit):
            logits = self._logits(context, new)
            if self._rules is not None:
                logits = self._rules.apply(logits[None], [Row(tokens, response, self._n_prefix)])[0]
            token = choose(logits, sampling, self._generator)
            # Set between forwards only: the cache of an interrupted one matches no tokens.
            self._context = context
            if token in self._end_tokens:
                return
            response.append(token)
            yield token
            self._context = None
            new = [token]

    def _reusable_context(self, tokens: list[int]) -> tuple[_Context, list[int]]:
        """The context to continue, and the tokens that it lacks."""
        from transformers import DynamicCache

        context, self._context = self._context, None
        if context is not None and len(context.tokens) < len(tokens):
            known = len(context.tokens)
            if tokens[:known] == context.tokens:
                return context, tokens[known:]
        model: Any = self._loaded.model
        return _Context(DynamicCache(config=model.config)), tokens

    @torch.inference_mode()
    def _logits(self, context: _Context, new: list[int]) -> Float[Tensor, " vocab"]:
        """Logits after the last of `new`, fp32 on the CPU."""
        context.tokens += new
        device = self._loaded.device
        ids = torch.tensor([new], device=device)
        mask = torch.ones(1, len(context.tokens), dtype=torch.long, device=device)
        return self._forward(ids, mask, context.cache)[0].float().cpu()
