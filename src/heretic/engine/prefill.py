"""Prefill: a common prefix once, the rest of the prompts in slices of similar length."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .forward import Forward
from .kv_cache import KVCache, copy_rows, is_kv_only, is_preallocated, join_rows, make_cache, stretch_mask
from .layer_cache import BatchKeys, LowerLayerCache

MIN_PREFIX = 4
"""Shorter common prefixes are not shared: a forward of their own costs more than it saves."""

MIN_SLICE_ROWS = 8
"""A slice has at least as many prompts, so that a forward reads the weights for enough rows."""

MAX_STRETCH, MAX_SLACK = 1.25, 2
"""The longest prompt of a slice has at most 1.25 times the tokens of its shortest plus 2: a quarter of the positions at
most is padding. The constant lets prompts of a few tokens differ by a word."""

AssignCandidates = Callable[[Tensor], None]
"""Called with the candidate of each row, (rows,), before a forward."""


@dataclass(frozen=True, slots=True)
class Prefilled:
    """Prompts whose next token can be chosen. Rows are candidate-major over `prompts`.

    `logits` are those of the last position; `mask` excludes padding; the first `n_shared` positions are the common
    prefix.
    """

    prompts: list[int]
    candidates: Int[Tensor, " row"]
    logits: Float[Tensor, "row vocab"]
    mask: Int[Tensor, "row position"]
    cache: KVCache
    n_shared: int


@dataclass(frozen=True, slots=True)
class ForwardPlan:
    """What a prefill is for: `n_candidates`, whose rows `assign` tells apart and none of which edits the first
    `n_unedited` layers, and `n_reserved` positions to follow the prompts (0: nothing follows)."""

    n_candidates: int
    assign: AssignCandidates
    n_unedited: int = 0
    n_reserved: int = 0


class Prefill:
    """Runs the tokens of prompts, for several candidates at once.

    `layer_cache` may be None; `pads` says whether rows of different lengths may share a forward.
    """

    def __init__(
        self,
        forward: Forward,
        config: Any,
        device: torch.device,
        pad: int,
        *,
        share_prefix: bool = True,
        layer_cache: LowerLayerCache | None = None,
        pads: bool = True,
    ) -> None:
        self._forward = forward
        self._config = config
        self._device = device
        self._pad = pad
        self._share_prefix = share_prefix
        self.layer_cache = layer_cache
        self._pads = pads

    def split(self, prompts: Sequence[Sequence[int]], max_prompts: int) -> Iterator[list[int]]:
        """Indices of all prompts, shortest first, `max_prompts` at a time; of equal length where rows can't be
        padded."""
        batch: list[int] = []
        for index in sorted(range(len(prompts)), key=lambda index: len(prompts[index])):
            apart = not self._pads and batch and len(prompts[index]) != len(prompts[batch[0]])
            if apart or len(batch) == max_prompts:
                yield batch
                batch = []
            batch.append(index)
        if batch:
            yield batch

    def batches(self, prompts: Sequence[Sequence[int]], max_rows: int, plan: ForwardPlan) -> Iterator[Prefilled]:
        """All prompts, shortest first, `max_rows` rows (prompts times candidates) a batch.

        The slices of a batch run one by one and are then joined.
        """
        for batch in self.split(prompts, max(1, max_rows // plan.n_candidates)):
            slices = list(self.slices(prompts, batch, plan))
            yield slices[0] if len(slices) == 1 else _join(slices, plan.n_candidates)

    def slices(self, prompts: Sequence[Sequence[int]], batch: Sequence[int], plan: ForwardPlan) -> Iterator[Prefilled]:
        """The prompts of `batch`, which ascend in length, a slice of similar lengths at a time."""
        max_positions = len(prompts[batch[-1]]) + plan.n_reserved
        prefix = make_cache(self._config, max_positions)
        divisible = is_kv_only(prefix, max_positions)
        n_shared = common_prefix_length([prompts[index] for index in batch]) if self._share_prefix and divisible else 0
        if n_shared < MIN_PREFIX:
            n_shared = 0
        if n_shared:
            shared = tuple(prompts[batch[0]][:n_shared])
            plan.assign(torch.arange(plan.n_candidates))
            ids = torch.tensor([shared] * plan.n_candidates, device=self._device)
            keys = BatchKeys([shared], [n_shared], plan.n_candidates, fills_cache=True)
            self._run(keys, ids, torch.ones_like(ids), prefix, plan)
        lengths = [len(prompt) - n_shared for prompt in prompts]
        for part in _similar_lengths(batch, lengths) if divisible else [list(batch)]:
            yield self._slice([prompts[index] for index in part], part, prefix, n_shared, plan)

    def _slice(
        self, rows: list[Sequence[int]], part: list[int], prefix: KVCache, n_shared: int, plan: ForwardPlan
    ) -> Prefilled:
        longest = max(map(len, rows))
        ids = [[self._pad] * (longest - len(row)) + list(row[n_shared:]) for row in rows] * plan.n_candidates
        mask = [[1] * n_shared + [0] * (longest - len(row)) + [1] * (len(row) - n_shared) for row in rows]
        candidates = torch.arange(plan.n_candidates).repeat_interleave(len(rows))
        # An empty cache is copied with the kinds of its layers.
        cache = copy_rows(prefix, len(rows)) if n_shared else copy.deepcopy(prefix)
        tokens = torch.tensor(ids, device=self._device)
        attended = torch.tensor(mask * plan.n_candidates, device=self._device)
        plan.assign(candidates)
        keys = BatchKeys(
            [(n_shared, tuple(row)) for row in rows],
            [len(row) - n_shared for row in rows],
            plan.n_candidates,
            fills_cache=plan.n_reserved > 0,
        )
        logits = self._run(keys, tokens, attended, cache, plan)
        return Prefilled(part, candidates, logits, attended, cache, n_shared)

    def _run(
        self,
        keys: BatchKeys,
        ids: Int[Tensor, "row new"],
        mask: Int[Tensor, "row position"],
        cache: KVCache,
        plan: ForwardPlan,
    ) -> Float[Tensor, "row vocab"]:
        def forward() -> Tensor:
            return self._forward(ids, mask, cache)

        if self.layer_cache is None or not is_preallocated(cache):
            return forward()
        return self.layer_cache.run(keys, plan.n_unedited, cache, forward)


def common_prefix_length(prompts: Sequence[Sequence[int]]) -> int:
    """The number of tokens that all prompts begin with, less than the shortest has."""
    ordered = sorted(map(list, prompts))
    first, last = ordered[0], ordered[-1]
    length = 0
    while length < min(len(first), len(last)) and first[length] == last[length]:
        length += 1
    return min(length, min(map(len, prompts)) - 1)


def _similar_lengths(batch: Sequence[int], lengths: Sequence[int]) -> Iterator[list[int]]:
    """`batch`, ascending in length, divided where padding would waste too much."""
    part: list[int] = []
    for index in batch:
        too_long = part and lengths[index] > MAX_STRETCH * lengths[part[0]] + MAX_SLACK
        if too_long and len(part) >= MIN_SLICE_ROWS:
            yield part
            part = []
        part.append(index)
    if part:
        yield part


def _join(slices: Sequence[Prefilled], n_candidates: int) -> Prefilled:
    """Slices as one batch, candidate-major over all their prompts."""
    n_shared = slices[0].n_shared
    longest = max(each.mask.shape[1] for each in slices)
    candidates = torch.cat([each.candidates for each in slices])
    order = candidates.argsort(stable=True)
    cache = join_rows([each.cache for each in slices], n_shared)
    if n_candidates > 1:
        cache.batch_select_indices(order.to(slices[0].mask.device))
    return Prefilled(
        prompts=[index for each in slices for index in each.prompts],
        candidates=candidates[order],
        logits=torch.cat([each.logits for each in slices])[order],
        mask=torch.cat([stretch_mask(each.mask, n_shared, longest) for each in slices])[order],
        cache=cache,
        n_shared=n_shared,
    )
