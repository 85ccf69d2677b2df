"""Greedy decoding of a batch of rows, from which finished rows leave."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..model.chat import TokenBatch


@dataclass
class Row:
    """One response in the making."""

    tokens: list[int] = field(default_factory=list)
    ended: bool = False
    decided: bool = False


class Forward:
    """Calls a model with what its forward takes: positions by the mask, logits of the last position only."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        taken = inspect.signature(model.forward).parameters
        self._takes_positions = "position_ids" in taken
        self._takes_logits_to_keep = "logits_to_keep" in taken
        head = model.get_output_embeddings()  # type: ignore[operator]
        if head is not None:
            head.register_forward_pre_hook(_contiguous)

    def __call__(self, ids: Tensor, mask: Tensor, cache: Any = None) -> Any:
        """Output for `ids` (rows, new positions) under `mask` (rows, all positions)."""
        arguments: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "use_cache": cache is not None}
        if cache is not None:
            arguments["past_key_values"] = cache
        if self._takes_positions:
            # Padding is on the left: positions count from the first real token.
            positions = (mask.cumsum(dim=1) - 1).clamp_min(0)
            arguments["position_ids"] = positions[:, -ids.shape[1] :]
        if self._takes_logits_to_keep:
            arguments["logits_to_keep"] = 1
        return self._model(**arguments)


def _contiguous(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """On a slice of positions, a CPU's matrix product copies the whole vocabulary's weights once a row."""
    return (args[0].contiguous(), *args[1:])


class GreedyDecoder:
    """Continues padded prompts greedily. The model's own generation settings (penalties, say) play no part."""

    def __init__(self, forward: Forward, config: Any, end_tokens: Sequence[int], compact: bool = True) -> None:
        self._forward = forward
        self._config = config
        self._end = torch.tensor(sorted(set(end_tokens)), dtype=torch.long)
        self._compact = compact

    @torch.inference_mode()
    def run(
        self,
        batch: TokenBatch,
        max_new_tokens: int,
        check: Callable[[Sequence[Row]], None],
        kept: Callable[[Tensor], None],
        check_every: int = 4,
    ) -> list[Row]:
        """Rows of at most `max_new_tokens`.

        `check` may set `decided` on rows that need not go on. `kept` is told, before the first forward and whenever
        rows leave, which of the batch's rows the next forwards hold: indices (rows,).
        """
        from transformers import DynamicCache

        rows = [Row() for _ in batch.input_ids]
        active = torch.arange(len(rows))
        kept(active)
        cache = DynamicCache(config=self._config)
        mask = batch.attention_mask
        logits = self._forward(batch.input_ids, mask, cache).logits[:, -1]
        for step in range(1, max_new_tokens + 1):
            chosen = logits.argmax(dim=-1)
            self._append(rows, active, chosen)
            if step % check_every == 0 or step == max_new_tokens:
                check([rows[i] for i in active.tolist() if not rows[i].ended])
            going = torch.tensor([not (rows[i].ended or rows[i].decided) for i in active.tolist()])
            if step == max_new_tokens or not going.any():
                break
            if self._compact and self._worth_it(going):
                index = going.nonzero().flatten().to(mask.device)
                cache.batch_select_indices(index)
                mask, chosen, active = mask[index], chosen[index], active[going]
                kept(active)
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            logits = self._forward(chosen[:, None], mask, cache).logits[:, -1]
        return rows

    def _append(self, rows: list[Row], active: Tensor, chosen: Tensor) -> None:
        ends = torch.isin(chosen.cpu(), self._end).tolist()
        for index, token, end in zip(active.tolist(), chosen.tolist(), ends, strict=True):
            row = rows[index]
            if not (row.ended or row.decided):
                row.ended = end
                if not end:
                    row.tokens.append(token)

    @staticmethod
    def _worth_it(going: Tensor) -> bool:
        """Compacting copies the cache: done once a sixteenth of the rows has finished."""
        return int((~going).sum()) * 16 >= len(going)
