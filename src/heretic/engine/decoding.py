"""Greedy decoding of a batch, which finished rows leave."""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .early_stop import RowState
from .forward import Forward
from .generation_rules import GenerationRules, Row
from .kv_cache import select_rows
from .prefill import AssignCandidates, Prefilled

COMPACT_FRACTION = 1 / 16
"""Rows leave the batch once this share of it has finished: leaving copies the cache."""

OnToken = Callable[[Sequence[RowState], int, bool], None]
"""Called after each token with all rows, the number of the token, and whether it is the last; may end rows."""


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """The tokens that end a response: those of the model's generation settings, and the tokenizer's own."""
    configured = model.generation_config.eos_token_id
    ends = configured if isinstance(configured, list) else [configured]
    return [token for token in [*ends, tokenizer.eos_token_id] if token is not None]


@dataclass(frozen=True, slots=True)
class RuledPrompts:
    """The rules of a model's generation configuration, and the tokens of the prompts that they are applied to, the last
    `n_prefix` of which are the response prefix."""

    rules: GenerationRules
    tokens: Sequence[Sequence[int]]
    n_prefix: int = 0


class GreedyDecoder:
    """Continues prompts greedily, under the `ruled` prompts' rules."""

    def __init__(
        self, forward: Forward, end_tokens: Sequence[int], compact_batch: bool = True, ruled: RuledPrompts | None = None
    ) -> None:
        self._forward = forward
        self._end_tokens = frozenset(end_tokens)
        self._compact_batch = compact_batch
        self._ruled = ruled

    def run(self, start: Prefilled, max_new_tokens: int, on_token: OnToken, assign: AssignCandidates) -> list[RowState]:
        """Rows of at most `max_new_tokens`."""
        rows = [RowState(candidate) for candidate in start.candidates.tolist()]
        in_batch = torch.arange(len(rows))
        mask, logits, cache = start.mask, start.logits, start.cache
        assign(start.candidates)
        for step in range(1, max_new_tokens + 1):
            if self._ruled is not None:
                logits = self._under_rules(self._ruled, logits, start.prompts, rows, in_batch.tolist())
            # `max` gives the same index as `argmax`, which on a CPU takes six times as long in bfloat16.
            chosen = logits.max(dim=-1).indices
            append_tokens(rows, in_batch.tolist(), chosen.tolist(), self._end_tokens)
            on_token(rows, step, step == max_new_tokens)
            active = torch.tensor([rows[index].active for index in in_batch.tolist()])
            if step == max_new_tokens or not active.any():
                break
            if self._compact_batch and _worth_compacting(active):
                index = active.nonzero().flatten().to(mask.device)
                select_rows(cache, len(mask), index)
                mask, chosen, in_batch = mask[index], chosen[index], in_batch[active]
                assign(start.candidates[in_batch])
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            logits = self._forward(chosen[:, None], mask, cache)
        return rows

    def _under_rules(
        self,
        ruled: RuledPrompts,
        logits: Float[Tensor, "row vocab"],
        prompts: Sequence[int],
        rows: Sequence[RowState],
        in_batch: Sequence[int],
    ) -> Float[Tensor, "row vocab"]:
        """The logits of the rows `in_batch`, which are candidate-major over `prompts`."""
        of_prompt = [ruled.tokens[prompts[index % len(prompts)]] for index in in_batch]
        responses = [rows[index].tokens for index in in_batch]
        pairs = zip(of_prompt, responses, strict=True)
        return ruled.rules.apply(logits, [Row(prompt, response, ruled.n_prefix) for prompt, response in pairs])


def append_tokens(
    rows: Sequence[RowState], in_batch: Sequence[int], chosen: Sequence[int], end_tokens: Container[int]
) -> None:
    """Appends `chosen` to the active ones among the rows `in_batch`; one of `end_tokens` ends its row instead."""
    for index, token in zip(in_batch, chosen, strict=True):
        row = rows[index]
        if row.active:
            row.ended = token in end_tokens
            if not row.ended:
                row.tokens.append(token)


def _worth_compacting(active: Bool[Tensor, " row"]) -> bool:
    return int((~active).sum()) >= COMPACT_FRACTION * len(active)
