"""A batch in tensors at fixed addresses, which captured steps read and write."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import Cache, StaticLayer

from ..kv_cache import KVCache, PreallocatedLayer
from ..prefill import Prefilled

SIZE_FRACTIONS = (1.0, 0.75, 0.5, 0.375, 0.25, 0.1875, 0.125, 0.0625)
"""Of the rows: the batch sizes that a step is captured for. Each is at least two thirds of the one before (the last:
half), so that most rows of a graph are in use, with eight graphs to capture."""

POSITION_MULTIPLE = 32
"""Buffers have a multiple of this many positions: attention kernels need multiples of 8 or 16, and few sizes suffice
for all prompts."""

CHECK_STEPS = 2
"""Steps compared with plain forwards: the second one reads what the first one wrote."""


@dataclass(frozen=True, slots=True)
class BatchCapacity:
    """The sizes of a batch's buffers: rows, positions (of prompts and responses), tokens of a response, candidates, and
    the rank of their edits."""

    rows: int
    positions: int
    tokens: int
    candidates: int
    rank: int

    def covers(self, other: "BatchCapacity") -> bool:
        return self.extended_to(other) == self

    def extended_to(self, other: "BatchCapacity") -> "BatchCapacity":
        return BatchCapacity(*(max(getattr(self, name), getattr(other, name)) for name in self.__slots__))

    @property
    def graph_sizes(self) -> list[int]:
        """The numbers of rows that a step is captured for, the largest first."""
        return sorted({max(1, round(self.rows * fraction)) for fraction in SIZE_FRACTIONS}, reverse=True)

    @property
    def padded_positions(self) -> int:
        """Positions of the key and value buffers."""
        return -(-(self.positions + CHECK_STEPS) // POSITION_MULTIPLE) * POSITION_MULTIPLE


class StaticKVLayer(StaticLayer):
    """One layer's keys and values, written at the position in the tensor `cache_position`, (1,). transformers' own
    layer counts positions itself, in each layer."""

    def __init__(self, keys: Tensor, values: Tensor, cache_position: Tensor, is_sliding: bool) -> None:
        super().__init__(keys.shape[-2])
        self.keys, self.values, self.cumulative_length = keys, values, cache_position
        self.is_sliding = is_sliding
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        assert self.keys is not None
        assert self.values is not None
        self.keys.index_copy_(2, self.cumulative_length, key_states)
        self.values.index_copy_(2, self.cumulative_length, value_states)
        return self.keys, self.values


class StaticBatchView:
    """The first rows of a batch, as a captured step sees them.

    `ids` and `position_ids` (rows, 1): the newest token and its position in its row; `mask` (rows, 1, 1, positions) is
    added to the attention scores; `candidates` (rows,); `cache` of keys and values; `chosen` (tokens, rows): all tokens
    chosen so far; `logits` (rows, vocab) of the newest step.
    """

    def __init__(self, batch: "StaticBatch", rows: int) -> None:
        self.ids, self.position_ids, self.mask = batch.ids[:rows], batch.position_ids[:rows], batch.mask[:rows]
        self.candidates, self.chosen = batch.candidates[:rows], batch.chosen[:, :rows]
        self.logits = batch.logits[:rows]
        layers = [
            StaticKVLayer(keys[:rows], values[:rows], batch.cache_position, sliding)
            for keys, values, sliding in zip(batch.keys, batch.values, batch.sliding, strict=True)
        ]
        self.cache: KVCache = Cache(layers=layers)  # type: ignore[arg-type]


class StaticBatch:
    """Buffers of `capacity`, for a model with layers like those of `start`.

    `cache_position` (1,) is where the next step writes keys and values; `n_chosen` (1,) is the number of tokens chosen.
    """

    def __init__(self, start: Prefilled, capacity: BatchCapacity) -> None:
        self.capacity = capacity
        device, rows, positions = start.mask.device, capacity.rows, capacity.padded_positions
        layers: Sequence[PreallocatedLayer] = start.cache.layers
        self.sliding = [bool(layer.is_sliding) for layer in layers]
        self.keys = [_buffer(layer.keys, rows, positions) for layer in layers]
        self.values = [_buffer(layer.values, rows, positions) for layer in layers]
        self.masked = float(torch.finfo(self.keys[0].dtype).min)
        self.mask = torch.full((rows, 1, 1, positions), self.masked, dtype=self.keys[0].dtype, device=device)
        self.ids, self.position_ids, self.candidates, self.chosen, self.cache_position, self.n_chosen = (
            torch.zeros(shape, dtype=torch.long, device=device)
            for shape in ((rows, 1), (rows, 1), (rows,), (capacity.tokens + CHECK_STEPS, rows), (1,), (1,))
        )
        self.logits = start.logits.new_zeros(rows, start.logits.shape[1])
        self._loaded: tuple[Tensor, ...] = ()

    def load(self, start: Prefilled, first: Int[Tensor, " row"]) -> None:
        """Copies the rows of `start`, whose `first` tokens have been chosen; further rows are empty."""
        rows, positions = start.mask.shape
        for layer, keys, values in zip(start.cache.layers, self.keys, self.values, strict=True):
            for buffer, part in ((keys, layer.keys), (values, layer.values)):
                # Leftovers of an earlier batch might not be finite, and an attention weight of 0 times inf is NaN.
                buffer.zero_()
                buffer[:rows, :, :positions] = part
        self.mask.fill_(self.masked)
        self.mask[:rows, 0, 0, :positions].masked_fill_(start.mask.bool(), 0.0)
        for each in (self.ids, self.position_ids, self.candidates, self.chosen):
            each.zero_()
        self.ids[:rows, 0] = first
        self.position_ids[:rows, 0] = start.mask.sum(dim=1)
        self.candidates[:rows] = start.candidates.to(self.candidates.device)
        self.chosen[0, :rows] = first
        self.cache_position.fill_(positions)
        self.n_chosen.fill_(1)
        self._loaded = tuple(each.clone() for each in self._state)

    def rewind(self) -> None:
        """Restores what `load` set. Keys and values of later positions stay, excluded by the mask."""
        for now, then in zip(self._state, self._loaded, strict=True):
            now.copy_(then)

    @property
    def _state(self) -> tuple[Tensor, ...]:
        """What a step changes, but for keys, values and logits."""
        return self.ids, self.position_ids, self.mask, self.chosen, self.cache_position, self.n_chosen

    def compact(self, index: Int[Tensor, " kept"]) -> None:
        """Moves the rows at `index` to the front."""
        for each in (*self.keys, *self.values, self.ids, self.position_ids, self.mask, self.candidates):
            each[: len(index)] = each[index]

    def read_async(self, begin: int, end: int, n_rows: int) -> "AsyncTokens":
        """Tokens `begin` to `end` of the first `n_rows` rows."""
        return AsyncTokens(self.chosen[begin:end, :n_rows])


class AsyncTokens:
    """Tokens, (tokens, rows), on their way to the host while the device runs the next steps."""

    def __init__(self, tokens: Int[Tensor, "token row"]) -> None:
        self._copied: Any = None
        if tokens.device.type != "cuda":
            self._tokens = tokens.clone()
            return
        # A copy to pageable memory would wait for the device.
        self._tokens = torch.empty(tokens.shape, dtype=tokens.dtype, pin_memory=True)
        self._tokens.copy_(tokens, non_blocking=True)
        self._copied = torch.cuda.Event()
        self._copied.record(torch.cuda.current_stream(tokens.device))

    def tokens(self) -> list[list[int]]:
        """Waits for the copy."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._tokens.tolist()


def _buffer(
    part: Float[Tensor, "_ head _ feature"] | None, rows: int, positions: int
) -> Float[Tensor, "{rows} head {positions} feature"]:
    """Zeros of the layer's type and device."""
    assert part is not None
    return part.new_zeros(rows, part.shape[1], positions, part.shape[3])
