"""Prompts through the model: what all of them begin with once, the rest in slices of like length."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .forward import Forward
from .kv_cache import RoomyLayer, can_be_divided, copy_rows, join_rows, make_cache, stretch_mask
from .layer_cache import LowerLayerCache, Rows

SHORTEST_PREFIX = 4
SLICE_ROWS = 8
SLICE_STRETCH, SLICE_SLACK = 1.25, 2

AssignCandidates = Callable[[Tensor], None]
"""Told the candidate of each row, (rows,), before a forward."""


@dataclass(frozen=True, slots=True)
class Prefilled:
    """Prompts whose next token can be chosen. Rows are candidate-major over `prompts`.

    `logits` (rows, vocab) follow the last position; `mask` (rows, positions) leaves padding out; the first `shared`
    positions are the common prefix.
    """

    prompts: list[int]
    candidates: Tensor
    logits: Tensor
    mask: Tensor
    cache: Any
    shared: int


@dataclass(frozen=True, slots=True)
class ForwardPlan:
    """What a forward is for: `n_candidates` whose rows `assign` tells apart, none of which edits the first `untouched`
    layers, with `room` positions to follow the prompts (0: nothing follows)."""

    n_candidates: int
    assign: AssignCandidates
    untouched: int = 0
    room: int = 0


class Prefill:
    """Runs token rows, one a prompt, for several candidates at once."""

    def __init__(
        self,
        forward: Forward,
        config: Any,
        device: torch.device,
        pad: int,
        share_prefix: bool = True,
        untouched: LowerLayerCache | None = None,
        pads: bool = True,
    ) -> None:
        self._forward = forward
        self._config = config
        self._device = device
        self._pad = pad
        self._share_prefix = share_prefix
        self.untouched = untouched
        self._pads = pads

    def cut(self, rows: Sequence[Sequence[int]], most_prompts: int) -> Iterator[list[int]]:
        """All prompts by length, `most_prompts` at a time; of one length where rows can't be padded."""
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        batch: list[int] = []
        for index in order:
            apart = not self._pads and batch and len(rows[index]) != len(rows[batch[0]])
            if apart or len(batch) == most_prompts:
                yield batch
                batch = []
            batch.append(index)
        if batch:
            yield batch

    def batches(self, rows: Sequence[Sequence[int]], most_rows: int, work: ForwardPlan) -> Iterator[Prefilled]:
        """All prompts, shortest first, `most_rows` rows of prompts and candidates a batch.

        The slices of a batch run one by one and are joined.
        """
        for batch in self.cut(rows, max(1, most_rows // work.n_candidates)):
            slices = list(self.slices(rows, batch, work))
            yield slices[0] if len(slices) == 1 else _join(slices, work.n_candidates)

    def slices(self, rows: Sequence[Sequence[int]], batch: Sequence[int], work: ForwardPlan) -> Iterator[Prefilled]:
        """The prompts of `batch`, which ascend in length, a slice of like lengths at a time."""
        most_positions = len(rows[batch[-1]]) + work.room
        prefix = make_cache(self._config, most_positions)
        divisible = can_be_divided(prefix, most_positions)
        shared = common_prefix_length([rows[index] for index in batch]) if self._share_prefix and divisible else 0
        if shared < SHORTEST_PREFIX:
            shared = 0
        if shared:
            start = tuple(rows[batch[0]][:shared])
            work.assign(torch.arange(work.n_candidates))
            ids = torch.tensor([start] * work.n_candidates, device=self._device)
            rows_of = Rows([start], [shared], work.n_candidates, going_on=True)
            self._run(rows_of, ids, torch.ones_like(ids), prefix, work)
        for part in _parts(batch, [len(row) - shared for row in rows]) if divisible else [list(batch)]:
            yield self._slice([rows[index] for index in part], part, prefix, shared, work)

    def _slice(
        self, rows: list[Sequence[int]], part: list[int], prefix: Any, shared: int, work: ForwardPlan
    ) -> Prefilled:
        longest = max(map(len, rows))
        ids = [[self._pad] * (longest - len(row)) + list(row[shared:]) for row in rows] * work.n_candidates
        mask = [[1] * shared + [0] * (longest - len(row)) + [1] * (len(row) - shared) for row in rows]
        candidates = torch.arange(work.n_candidates).repeat_interleave(len(rows))
        cache = copy_rows(prefix, len(rows)) if shared else make_cache_like(prefix)
        tokens = torch.tensor(ids, device=self._device)
        attended = torch.tensor(mask * work.n_candidates, device=self._device)
        work.assign(candidates)
        keys = [(shared, tuple(row)) for row in rows]
        rows_of = Rows(keys, [len(row) - shared for row in rows], work.n_candidates, going_on=work.room > 0)
        logits = self._run(rows_of, tokens, attended, cache, work)
        return Prefilled(part, candidates, logits, attended, cache, shared)

    def _run(self, rows: Rows, ids: Tensor, mask: Tensor, cache: Any, work: ForwardPlan) -> Tensor:
        def forward() -> Tensor:
            return self._forward(ids, mask, cache)

        roomy = bool(cache.layers) and all(isinstance(layer, RoomyLayer) for layer in cache.layers)
        if self.untouched is None or not roomy:
            return forward()
        return self.untouched.run(rows, work.untouched, cache, forward)


def make_cache_like(empty: Any) -> Any:
    """Another cache of the same kinds of layers, as empty as this one."""
    import copy

    return copy.deepcopy(empty)


def common_prefix_length(rows: Sequence[Sequence[int]]) -> int:
    """How many tokens all rows begin with, at least one less than the shortest has."""
    ordered = sorted(map(list, rows))
    first, last = ordered[0], ordered[-1]
    shared = 0
    while shared < min(len(first), len(last)) and first[shared] == last[shared]:
        shared += 1
    return min(shared, min(map(len, rows)) - 1)


def _parts(batch: Sequence[int], lengths: Sequence[int]) -> Iterator[list[int]]:
    """`batch`, ascending in length, cut where padding would waste too much."""
    part: list[int] = []
    for index in batch:
        too_long = part and lengths[index] > SLICE_STRETCH * lengths[part[0]] + SLICE_SLACK
        if too_long and len(part) >= SLICE_ROWS:
            yield part
            part = []
        part.append(index)
    if part:
        yield part


def _join(slices: Sequence[Prefilled], n_candidates: int) -> Prefilled:
    """Slices as one batch, candidate-major over all their prompts."""
    shared = slices[0].shared
    longest = max(each.mask.shape[1] for each in slices)
    candidates = torch.cat([each.candidates for each in slices])
    order = candidates.argsort(stable=True)
    cache = join_rows([each.cache for each in slices], shared)
    if n_candidates > 1:
        cache.batch_select_indices(order.to(slices[0].mask.device))
    return Prefilled(
        prompts=[index for each in slices for index in each.prompts],
        candidates=candidates[order],
        logits=torch.cat([each.logits for each in slices])[order],
        mask=torch.cat([stretch_mask(each.mask, shared, longest) for each in slices])[order],
        cache=cache,
        shared=shared,
    )
