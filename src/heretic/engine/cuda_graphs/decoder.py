"""Greedy decoding by CUDA graphs: one launch a token, read every few tokens while the next ones are chosen."""

from collections.abc import Sequence

import torch

from ...ablation.edit import ModelEdit
from ...model.hooks.edits import EditHooks
from ..decoding import GreedyDecoder, OnToken, append_tokens
from ..early_stop import CHECK_INTERVAL, RowState
from ..prefill import AssignCandidates, Prefilled
from .runner import CudaGraphRunner
from .static_batch import AsyncTokens, BatchCapacity

READS_IN_FLIGHT = {"cuda": 2}
"""Reads started before the first one is waited for, by device type (others: 1): while the host reads tokens, the device
chooses the next ones. Tokens that a finished row gets meanwhile are dropped."""


class StaticDecoder:
    """Decodes by CUDA graphs where they can be used, and by `plain` otherwise, with the same result."""

    def __init__(
        self,
        plain: GreedyDecoder,
        runner: CudaGraphRunner,
        end_tokens: Sequence[int],
        needed: BatchCapacity,
        edits: Sequence[ModelEdit],
        hooks: EditHooks,
    ) -> None:
        self._plain = plain
        self._runner = runner
        self._end_tokens = frozenset(end_tokens)
        self._needed = needed
        self._edits = edits
        self._hooks = hooks

    def run(self, start: Prefilled, max_new_tokens: int, on_token: OnToken, assign: AssignCandidates) -> list[RowState]:
        """Rows of at most `max_new_tokens`."""
        first = start.logits.max(dim=-1).indices
        if not self._runner.load(start, first, self._needed, self._edits, self._hooks):
            return self._plain.run(start, max_new_tokens, on_token, assign)
        rows = [RowState(candidate) for candidate in start.candidates.tolist()]
        self._decode(rows, max_new_tokens, on_token)
        return rows

    def _decode(self, rows: list[RowState], max_new_tokens: int, on_token: OnToken) -> None:
        in_batch = list(range(len(rows)))
        size = self._runner.size_for(len(rows))
        n_reads = READS_IN_FLIGHT.get(self._runner.batch.ids.device.type, 1)
        n_chosen = n_read = 0
        reads: list[tuple[list[int], AsyncTokens]] = []
        while n_read < max_new_tokens:
            while n_chosen < max_new_tokens and len(reads) < n_reads:
                until = min(max_new_tokens, n_chosen + CHECK_INTERVAL)
                # The first token was chosen from the logits of the prefill.
                for _ in range(until - max(n_chosen, 1)):
                    self._runner.replay(size)
                reads.append((in_batch, self._runner.batch.read_async(n_chosen, until, len(in_batch))))
                n_chosen = until
            indices, read = reads.pop(0)
            for tokens in read.tokens():
                n_read += 1
                append_tokens(rows, indices, tokens, self._end_tokens)
                on_token(rows, n_read, n_read == max_new_tokens)
                if not any(row.active for row in rows):
                    return
            size, in_batch = self._compacted(size, rows, in_batch)

    def _compacted(self, size: int, rows: Sequence[RowState], in_batch: list[int]) -> tuple[int, list[int]]:
        """The batch size to continue with and its rows: only the active ones, where they fit a smaller graph."""
        active = [place for place, index in enumerate(in_batch) if rows[index].active]
        smaller = self._runner.size_for(len(active))
        if not self._runner.compact_batch or smaller == size:
            return size, in_batch
        self._runner.batch.compact(torch.tensor(active, device=self._runner.batch.ids.device))
        return smaller, [in_batch[place] for place in active]
