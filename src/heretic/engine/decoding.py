"""Greedy decoding of a batch of rows, from which finished rows leave."""

from collections.abc import Callable, Container, Sequence
from typing import Any

import torch
from torch import Tensor

from .early_stop import Row
from .forward import Forward
from .kv_cache import select_rows
from .prefill import AssignCandidates, Prefilled


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """The tokens that end a response: those of the model's generation settings, and the tokenizer's own."""
    configured = model.generation_config.eos_token_id
    ends = configured if isinstance(configured, list) else [configured]
    return [token for token in [*ends, tokenizer.eos_token_id] if token is not None]


class GreedyDecoder:
    """Continues prompts greedily. The model's own generation settings (penalties, say) play no part."""

    def __init__(self, forward: Forward, end_tokens: Sequence[int], compact: bool = True) -> None:
        self._forward = forward
        self._end = frozenset(end_tokens)
        self._compact = compact

    def run(
        self,
        start: Prefilled,
        max_new_tokens: int,
        watch: Callable[[Sequence[Row], int, bool], None],
        assign: AssignCandidates,
    ) -> list[Row]:
        """Rows of at most `max_new_tokens`; `watch`, called after each token, may end them earlier."""
        rows = [Row(candidate) for candidate in start.candidates.tolist()]
        active = torch.arange(len(rows))
        mask, logits, cache = start.mask, start.logits, start.cache
        assign(start.candidates)
        for step in range(1, max_new_tokens + 1):
            # `max` gives the same index as `argmax`, which on a CPU takes six times as long in bfloat16.
            chosen = logits.max(dim=-1).indices
            append(rows, active.tolist(), chosen.tolist(), self._end)
            watch(rows, step, step == max_new_tokens)
            going = torch.tensor([rows[i].going for i in active.tolist()])
            if step == max_new_tokens or not going.any():
                break
            if self._compact and _worth_it(going):
                index = going.nonzero().flatten().to(mask.device)
                select_rows(cache, len(mask), index)
                mask, chosen, active = mask[index], chosen[index], active[going]
                assign(start.candidates[active])
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            logits = self._forward(chosen[:, None], mask, cache)
        return rows


def append(rows: Sequence[Row], active: Sequence[int], chosen: Sequence[int], end_tokens: Container[int]) -> None:
    """The tokens `chosen` for the rows at `active` go to those that are going; one of `end_tokens` ends its row."""
    for index, token in zip(active, chosen, strict=True):
        row = rows[index]
        if row.going:
            row.ended = token in end_tokens
            if not row.ended:
                row.tokens.append(token)


def _worth_it(going: Tensor) -> bool:
    """Compacting copies the cache: done once a sixteenth of the rows has finished."""
    return int((~going).sum()) * 16 >= len(going)
