"""Greedy decoding by CUDA graphs: one launch a token, in a batch that waiting rows keep full."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...ablation.edit import ModelEdit
from ...model.hooks.edits import EditHooks
from ..decoding import OnToken
from ..early_stop import RowState
from ..kv_cache import KVCache, is_preallocated
from ..prefill import ForwardPlan, Prefill, Prefix
from ..row_scheduler import Admitted, RowScheduler
from .runner import CudaGraphRunner, GraphsUnusable
from .static_batch import CHECK_STEPS, AsyncTokens, BatchCapacity

READS_IN_FLIGHT = {"cuda": 2}
"""Reads started before the first one is waited for, by device type (others: 1)."""


@dataclass(frozen=True, slots=True)
class Generation:
    """A decoding job: the tokens of prompts, the edits of candidates, and `max_new_tokens` for each response."""

    prompts: Sequence[Sequence[int]]
    edits: Sequence[ModelEdit]
    hooks: EditHooks
    plan: ForwardPlan
    max_new_tokens: int


class StaticDecoder:
    """Decodes by CUDA graphs, with the results of plain forwards."""

    def __init__(self, prefill: Prefill, runner: CudaGraphRunner, end_tokens: Sequence[int], max_rows: int) -> None:
        self._prefill = prefill
        self._runner = runner
        self._end_tokens = frozenset(end_tokens)
        self._max_rows = max_rows

    def run(
        self, wanted: Generation, on_token: OnToken, pruned: set[int], progress: Callable[[int], None]
    ) -> dict[tuple[int, int], RowState] | None:
        """Rows by candidate and prompt; those of a candidate in `pruned`, which `on_token` may fill, end.

        None if plain forwards must decode instead; no token has been read then.
        """
        n_candidates, n_prompts = len(wanted.edits), len(wanted.prompts)
        order = sorted(range(n_prompts), key=lambda index: len(wanted.prompts[index]))
        if wanted.max_new_tokens < CHECK_STEPS:
            return None
        prefix = self._prefill.prefix(wanted.prompts, order, wanted.plan)
        if not is_preallocated(prefix.cache):
            return None
        rows = min(n_prompts * n_candidates, max(n_candidates, self._max_rows))
        while rows >= n_candidates and self._runner.enabled:
            needed = BatchCapacity(
                rows=rows,
                positions=max(map(len, wanted.prompts)) + wanted.max_new_tokens,
                candidates=n_candidates,
                rank=max((each.rank for edit in wanted.edits for each in edit.values()), default=1),
            )
            if self._runner.begin(needed, wanted.edits):
                batch = _Rows(self._runner, self._prefill, wanted, prefix, rows)
                try:
                    return self._scheduler(batch, wanted, on_token, pruned).run(order, range(n_candidates), progress)
                except GraphsUnusable:
                    if not self._runner.limited:
                        return None
            elif not self._runner.limited:
                return None
            # Rows that don't fit the memory wait.
            rows //= 2
        return None

    def _scheduler(self, batch: "_Rows", wanted: Generation, on_token: OnToken, pruned: set[int]) -> RowScheduler:
        n_reads = READS_IN_FLIGHT.get(self._runner.device.type, 1)
        return RowScheduler(batch, self._end_tokens, wanted.max_new_tokens, on_token, pruned, n_reads)


class _Rows:
    """The rows of a generation in the slots of the runner's batch."""

    def __init__(
        self, runner: CudaGraphRunner, prefill: Prefill, wanted: Generation, prefix: Prefix, n_rows: int
    ) -> None:
        self._runner = runner
        self._prefill = prefill
        self._wanted = wanted
        self._prefix = prefix
        self._size = runner.size_for(n_rows)
        self._verified = False

    @property
    def n_slots(self) -> int:
        return self._size

    def admit(self, prompts: Sequence[int], candidates: Sequence[int], free: Sequence[int]) -> Admitted:
        """Raises:
        GraphsUnusable: before the first token, if captured steps can't be used.
        OutOfMemoryError: later, if a prefill finds no memory.
        """
        try:
            return self._admit(prompts, candidates, free)
        except torch.OutOfMemoryError as error:
            self._runner.limit_rows()
            if self._verified:
                raise
            raise GraphsUnusable from error

    def _admit(self, prompts: Sequence[int], candidates: Sequence[int], free: Sequence[int]) -> Admitted:
        slots, taken, in_place = _Slots(free), list[int](), False

        def row_cache(n_rows: int) -> KVCache | None:
            nonlocal taken, in_place
            taken = slots.take(n_rows)
            side_by_side = self._runner.has_batch and taken[-1] - taken[0] == n_rows - 1
            cache = self._runner.batch.cache_over(taken[0], n_rows) if side_by_side else None
            in_place = cache is not None
            return cache

        plan = replace(self._wanted.plan, candidates=candidates)
        rows: list[tuple[int, int, int]] = []
        tokens: list[Tensor] = []
        for start in self._prefill.slices(self._wanted.prompts, prompts, plan, self._prefix, row_cache):
            tokens.append(start.logits.max(dim=-1).indices)
            self._runner.load(start, tokens[-1], taken, in_place)
            rows += zip(start.prompts * len(candidates), start.candidates.tolist(), taken, strict=True)
        if not self._verified:
            self._runner.verify(self._size, self._wanted.hooks, [slot for *_, slot in rows])
        self._verified = True
        prompts_of, candidates_of, slots_of = (list(each) for each in zip(*rows, strict=True))
        return Admitted(prompts_of, candidates_of, slots_of, AsyncTokens(torch.cat(tokens)[None]))

    def advance(self, n_tokens: int) -> AsyncTokens:
        for _ in range(n_tokens):
            self._runner.replay(self._size)
        return self._runner.batch.read_async(n_tokens)

    def shrink(self, active: Sequence[int]) -> dict[int, int] | None:
        size = self._runner.size_for(len(active))
        if size >= self._size or not self._runner.compact_batch:
            return None
        kept = sorted(active)
        self._runner.batch.compact(kept)
        if self._runner.add_size(size, self._wanted.hooks, range(len(kept))):
            self._size = size
        return {slot: number for number, slot in enumerate(kept)}


class _Slots:
    """Free slots of a batch, ascending: contiguous ones if there are enough."""

    def __init__(self, free: Sequence[int]) -> None:
        self._free = list(free)

    def take(self, count: int) -> list[int]:
        starts = range(len(self._free) - count + 1)
        # Ascending numbers are contiguous if the last one exceeds the first by their count less one.
        run = next((n for n in starts if self._free[n + count - 1] - self._free[n] == count - 1), 0)
        taken = self._free[run : run + count]
        del self._free[run : run + count]
        return taken
