"""Greedy decoding by recorded steps: one launch a token, read every few tokens while the next ones are chosen."""

from collections.abc import Callable, Sequence

import torch

from ...ablation.edit import ModelEdit
from ...model.hooks.edits import EditHooks
from ..decoding import GreedyDecoder, append
from ..early_stop import CHECK_EVERY, Row
from ..prefill import AssignCandidates, Prefilled
from .runner import CudaGraphRunner
from .static_batch import AsyncTokens, BatchCapacity

AHEAD = {"cuda": 2}
"""Readings under way, by kind of device (others: 1): while the host reads the tokens of one, the device chooses those
of the next. What a row that has ended is given meanwhile is never read."""


class StaticDecoder:
    """Gives what `plain` gives, by recorded steps where they can be used."""

    def __init__(
        self,
        plain: GreedyDecoder,
        steps: CudaGraphRunner,
        end_tokens: Sequence[int],
        need: BatchCapacity,
        edits: Sequence[ModelEdit],
        applied: EditHooks,
    ) -> None:
        self._plain = plain
        self._steps = steps
        self._end = frozenset(end_tokens)
        self._need = need
        self._edits = edits
        self._applied = applied

    def run(
        self,
        start: Prefilled,
        max_new_tokens: int,
        watch: Callable[[Sequence[Row], int, bool], None],
        assign: AssignCandidates,
    ) -> list[Row]:
        """Rows of at most `max_new_tokens`; `watch` may end them earlier, as it may those of a GreedyDecoder."""
        first = start.logits.max(dim=-1).indices
        if not self._steps.begin(start, first, self._need, self._edits, self._applied):
            return self._plain.run(start, max_new_tokens, watch, assign)
        rows = [Row(candidate) for candidate in start.candidates.tolist()]
        self._go_on(rows, max_new_tokens, watch)
        return rows

    def _go_on(self, rows: list[Row], length: int, watch: Callable[[Sequence[Row], int, bool], None]) -> None:
        active = list(range(len(rows)))
        size = self._steps.size_for(len(rows))
        ahead = AHEAD.get(self._steps.batch.ids.device.type, 1)
        chosen = seen = 0
        waiting: list[tuple[list[int], AsyncTokens]] = []
        while seen < length:
            while chosen < length and len(waiting) < ahead:
                until = min(length, chosen + CHECK_EVERY)
                # The first token was chosen by what the prompts gave.
                for _ in range(until - max(chosen, 1)):
                    self._steps.run(size)
                waiting.append((active, self._steps.batch.read(chosen, until, len(active))))
                chosen = until
            those, reading = waiting.pop(0)
            for tokens in reading.tokens():
                seen += 1
                append(rows, those, tokens, self._end)
                watch(rows, seen, seen == length)
                if not any(row.going for row in rows):
                    return
            size, active = self._shrunk(size, rows, active)

    def _shrunk(self, size: int, rows: Sequence[Row], active: list[int]) -> tuple[int, list[int]]:
        """The number of rows to go on with, and which they are: fewer where those that are going fit a smaller step."""
        places = [place for place, index in enumerate(active) if rows[index].going]
        smaller = self._steps.size_for(len(places))
        if not self._steps.compact or smaller == size:
            return size, active
        self._steps.batch.keep(torch.tensor(places, device=self._steps.batch.ids.device))
        return smaller, [active[place] for place in places]
