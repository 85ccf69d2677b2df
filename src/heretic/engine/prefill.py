"""Prefill: a common prefix once, the rest of the prompts in slices of similar length."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .forward import Forward
from .kv_cache import KVCache, is_kv_only, is_preallocated, join_rows, make_cache, spread_rows, stretch_mask
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


RowCache = Callable[[int], KVCache | None]
"""Called with the number of rows of a slice: an empty cache over the memory in which they will be decoded, or None."""


@dataclass(frozen=True, slots=True)
class ForwardPlan:
    """The purpose of a prefill: the `candidates`, to which `assign` assigns the rows and none of which edits the first
    `n_unedited` layers, and `n_reserved` positions for the tokens that follow the prompts (0: none)."""

    candidates: Sequence[int]
    assign: AssignCandidates
    n_unedited: int = 0
    n_reserved: int = 0

    @property
    def n_candidates(self) -> int:
        return len(self.candidates)


@dataclass(frozen=True, slots=True)
class Prefix:
    """The first `n_shared` positions of several prompts, a row for each of `candidates`; an empty cache for 0.

    `divisible`: the prompts' rows may run in slices that are joined later.
    """

    cache: KVCache
    n_shared: int
    candidates: Sequence[int]
    divisible: bool


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
        self.pads = pads

    def split(self, prompts: Sequence[Sequence[int]], max_prompts: int) -> Iterator[list[int]]:
        return split_prompts(prompts, max_prompts, self.pads)

    def batches(self, prompts: Sequence[Sequence[int]], max_rows: int, plan: ForwardPlan) -> Iterator[Prefilled]:
        """All prompts, shortest first, `max_rows` rows (prompts times candidates) a batch.

        The slices of a batch run one by one and are then joined.
        """
        for batch in self.split(prompts, max(1, max_rows // plan.n_candidates)):
            slices = list(self.slices(prompts, batch, plan))
            joined = slices[0] if len(slices) == 1 else _join(slices, plan.n_candidates)
            # The slices' own caches are not kept while the batch is decoded.
            del slices
            yield joined
            del joined

    def slices(
        self,
        prompts: Sequence[Sequence[int]],
        batch: Sequence[int],
        plan: ForwardPlan,
        prefix: Prefix | None = None,
        row_cache: RowCache | None = None,
    ) -> Iterator[Prefilled]:
        """The prompts of `batch`, which ascend in length, a slice of similar lengths at a time.

        `prefix` is that of these prompts, and of more if it ran before, for at least the candidates of the plan. Keys
        and values are written to the cache that `row_cache` returns.
        """
        prefix = prefix or self.prefix(prompts, batch, plan)
        lengths = [len(prompt) - prefix.n_shared for prompt in prompts]
        for part in _similar_lengths(batch, lengths) if prefix.divisible else [list(batch)]:
            yield self._slice([prompts[index] for index in part], part, prefix, plan, row_cache)

    def prefix(self, prompts: Sequence[Sequence[int]], batch: Sequence[int], plan: ForwardPlan) -> Prefix:
        """The common prefix of the prompts of `batch`, run once for each candidate."""
        max_positions = max(len(prompts[index]) for index in batch) + plan.n_reserved
        cache = make_cache(self._config, max_positions)
        divisible = is_kv_only(cache, max_positions)
        n_shared = common_prefix_length([prompts[index] for index in batch]) if self._share_prefix and divisible else 0
        if n_shared < MIN_PREFIX:
            return Prefix(cache, 0, plan.candidates, divisible)
        shared = tuple(prompts[batch[0]][:n_shared])
        plan.assign(torch.tensor(plan.candidates))
        ids = torch.tensor([shared] * plan.n_candidates, device=self._device)
        keys = BatchKeys([shared], [n_shared], plan.n_candidates, fills_cache=True)
        self._run(keys, ids, torch.ones_like(ids), cache, plan)
        return Prefix(cache, n_shared, plan.candidates, divisible)

    def _slice(
        self,
        rows: list[Sequence[int]],
        part: list[int],
        prefix: Prefix,
        plan: ForwardPlan,
        row_cache: RowCache | None,
    ) -> Prefilled:
        longest, n_shared = max(map(len, rows)), prefix.n_shared
        ids = [[self._pad] * (longest - len(row)) + list(row[n_shared:]) for row in rows] * plan.n_candidates
        mask = [[1] * n_shared + [0] * (longest - len(row)) + [1] * (len(row) - n_shared) for row in rows]
        candidates = torch.tensor(plan.candidates).repeat_interleave(len(rows))
        cache = None if row_cache is None else row_cache(len(candidates))
        if n_shared:
            of_candidate = [prefix.candidates.index(candidate) for candidate in plan.candidates]
            cache = spread_rows(prefix.cache, torch.tensor(of_candidate).repeat_interleave(len(rows)), cache)
        elif cache is None:
            # An empty cache is copied with the kinds of its layers.
            cache = copy.deepcopy(prefix.cache)
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


def split_prompts(prompts: Sequence[Sequence[int]], max_prompts: int, pads: bool) -> Iterator[list[int]]:
    """Indices of all prompts, shortest first, `max_prompts` at a time; of equal length where rows can't be padded."""
    batch: list[int] = []
    for index in sorted(range(len(prompts)), key=lambda index: len(prompts[index])):
        apart = not pads and batch and len(prompts[index]) != len(prompts[batch[0]])
        if apart or len(batch) == max_prompts:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


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
