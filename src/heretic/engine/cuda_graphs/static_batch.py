"""A batch in tensors at fixed addresses, which captured steps read and write: each row at its own position."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import Cache, StaticLayer

from ..early_stop import CHECK_INTERVAL
from ..kv_cache import KVCache, PreallocatedLayer
from ..prefill import Prefilled

SIZE_FRACTIONS = (1.0, 0.75, 0.5, 0.25, 0.125)
"""Batch sizes that a step may be captured for, as shares of the rows. Waiting rows keep the batch full; the smaller
sizes are captured once nothing waits and the remaining rows fit them (docs/decisions/rows-take-turns.md)."""

POSITION_MULTIPLE = 32
"""Buffers have a multiple of this many positions: attention kernels need multiples of 8 or 16, and few sizes suffice
for all prompts."""

CHECK_STEPS = 2
"""Steps compared with plain forwards: the second one reads what the first one wrote."""

CHECKED_ROWS = 64
"""Rows of the comparison at most: their logits are kept, and those of all rows would take as much as a prefill."""


@dataclass(frozen=True, slots=True)
class BatchCapacity:
    """The sizes of a batch's buffers: rows, positions (of prompts and responses), candidates, and the rank of their
    edits."""

    rows: int
    positions: int
    candidates: int
    rank: int

    def covers(self, other: "BatchCapacity") -> bool:
        return self.extended_to(other) == self

    def extended_to(self, other: "BatchCapacity") -> "BatchCapacity":
        return BatchCapacity(*(max(getattr(self, name), getattr(other, name)) for name in self.__slots__))

    @property
    def graph_sizes(self) -> list[int]:
        """The numbers of rows that a step may be captured for, the largest first."""
        return sorted({max(1, round(self.rows * fraction)) for fraction in SIZE_FRACTIONS}, reverse=True)

    @property
    def padded_positions(self) -> int:
        """Positions of the key and value buffers."""
        return -(-(self.positions + CHECK_STEPS) // POSITION_MULTIPLE) * POSITION_MULTIPLE


class StaticKVLayer(StaticLayer):
    """One layer's keys and values, written at each row's position in the tensor `positions`, (rows,). transformers' own
    layer has one position for all rows, and counts it itself."""

    def __init__(self, keys: Tensor, values: Tensor, rows: Tensor, positions: Tensor, is_sliding: bool) -> None:
        super().__init__(keys.shape[-2])
        self.keys, self.values, self.cumulative_length = keys, values, positions
        self._rows = rows
        self.is_sliding = is_sliding
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        assert self.keys is not None
        assert self.values is not None
        self.keys[self._rows, :, self.cumulative_length] = key_states[:, :, 0]
        self.values[self._rows, :, self.cumulative_length] = value_states[:, :, 0]
        return self.keys, self.values


class StaticBatchView:
    """The first rows of a batch, as a captured step sees them.

    `ids` and `position_ids` (rows, 1): the newest token and its position in its row; `positions` (rows,): where the
    next step writes keys and values; `mask` (rows, 1, 1, positions) is added to the attention scores; `candidates`
    (rows,); `cache` of keys and values; `chosen` (tokens, rows): the tokens chosen since the last read; `checked`
    (checked,): rows whose logits are kept.
    """

    def __init__(self, batch: "StaticBatch", rows: int) -> None:
        self.ids, self.position_ids, self.mask = batch.ids[:rows], batch.position_ids[:rows], batch.mask[:rows]
        self.positions, self.candidates = batch.positions[:rows], batch.candidates[:rows]
        self.chosen, self.checked, self.rows = batch.chosen[:, :rows], batch.checked, rows
        numbers = torch.arange(rows, device=batch.ids.device)
        layers = [
            StaticKVLayer(keys[:rows], values[:rows], numbers, self.positions, sliding)
            for keys, values, sliding in zip(batch.keys, batch.values, batch.sliding, strict=True)
        ]
        self.cache: KVCache = Cache(layers=layers)  # type: ignore[arg-type]


class StaticBatch:
    """Buffers of `capacity`, for a model with layers like those of `start`.

    A row without a response is decoded like the others, and its tokens are ignored.
    """

    def __init__(self, start: Prefilled, capacity: BatchCapacity) -> None:
        self.capacity = capacity
        device, rows, positions = start.mask.device, capacity.rows, capacity.padded_positions
        layers: Sequence[PreallocatedLayer] = start.cache.layers
        self._kinds = [layer.empty_like() for layer in layers]
        self.sliding = [bool(layer.is_sliding) for layer in layers]
        self.keys = [_buffer(layer.keys, rows, positions) for layer in layers]
        self.values = [_buffer(layer.values, rows, positions) for layer in layers]
        self.masked = float(torch.finfo(self.keys[0].dtype).min)
        self.mask = torch.full((rows, 1, 1, positions), self.masked, dtype=self.keys[0].dtype, device=device)
        self.ids, self.position_ids, self.positions, self.candidates, self.chosen, self.n_chosen, self.checked = (
            torch.zeros(shape, dtype=torch.long, device=device)
            for shape in ((rows, 1), (rows, 1), (rows,), (rows,), (CHECK_INTERVAL, rows), (1,), (CHECKED_ROWS,))
        )
        self.logits = start.logits.new_zeros(CHECKED_ROWS, start.logits.shape[1])
        self._saved: tuple[Tensor, ...] = ()

    def cache_over(self, first: int, count: int) -> KVCache | None:
        """An empty cache over `count` rows from `first`: what a prefill writes to it is where decoding reads it.

        None where keys are stored transposed, which a prefill's own cache does.
        """
        if any(kind.transposed for kind in self._kinds):
            return None
        layers = []
        for kind, keys, values in zip(self._kinds, self.keys, self.values, strict=True):
            own = keys[first : first + count], values[first : first + count]
            _blank(own)
            layers.append(kind.over(*own))
        return Cache(layers=layers)  # type: ignore[arg-type]

    def load(self, start: Prefilled, first: Int[Tensor, " row"], rows: Sequence[int], in_place: bool) -> None:
        """Puts the prompts of `start`, whose `first` tokens have been chosen, into `rows`. With `in_place` their keys
        and values are there already."""
        index, length = torch.tensor(rows, device=self.ids.device), start.mask.shape[1]
        for layer, keys, values in () if in_place else zip(start.cache.layers, self.keys, self.values, strict=True):
            for buffer, part in ((keys, layer.keys), (values, layer.values)):
                filled = buffer.new_zeros(len(rows), *buffer.shape[1:])
                filled[:, :, :length] = part
                buffer[index] = filled
        mask = self.mask.new_full((len(rows), *self.mask.shape[1:]), self.masked)
        mask[:, 0, 0, :length].masked_fill_(start.mask.bool(), 0.0)
        self.mask[index] = mask
        self.ids[index, 0] = first
        self.position_ids[index, 0] = start.mask.sum(dim=1)
        self.positions[index] = length
        self.candidates[index] = start.candidates.to(index.device)

    def save(self) -> None:
        """Saves the state that steps change, for `rewind`."""
        self._saved = tuple(each.clone() for each in self._state)

    def rewind(self) -> None:
        """Restores the state of the last `save`. Keys and values of later positions stay, excluded by the mask."""
        for now, then in zip(self._state, self._saved, strict=True):
            now.copy_(then)

    @property
    def _state(self) -> tuple[Tensor, ...]:
        """The tensors that a step changes, except keys, values and logits."""
        return self.ids, self.position_ids, self.positions, self.mask, self.chosen, self.n_chosen

    def compact(self, rows: Sequence[int]) -> None:
        """Moves `rows` to the front."""
        index = torch.tensor(rows, device=self.ids.device)
        moved = (self.ids, self.position_ids, self.positions, self.mask, self.candidates)
        for each in (*self.keys, *self.values, *moved):
            each[: len(index)] = each[index]

    def rows_of(self, rows: Int[Tensor, " row"]) -> tuple[KVCache, Int[Tensor, "row position"]]:
        """Copies of the keys and values of `rows` up to their last position, and their mask."""
        length = max(self.positions[rows].tolist())
        cache: Any = Cache(layers=[kind.empty_like() for kind in self._kinds])
        for layer, keys, values in zip(cache.layers, self.keys, self.values, strict=True):
            layer.update(keys[rows, :, :length], values[rows, :, :length])
        return cache, (self.mask[rows, 0, 0, :length] == 0).long()

    def read_async(self, n_tokens: int) -> "AsyncTokens":
        """The `n_tokens` tokens that were chosen since the last read, of all rows."""
        tokens = AsyncTokens(self.chosen[:n_tokens])
        self.n_chosen.zero_()
        return tokens


class AsyncTokens:
    """Tokens, (tokens, rows), that are copied to the host while the device runs the next steps."""

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


def _blank(buffers: Sequence[Tensor]) -> None:
    """Zeros: leftovers of earlier rows might not be finite, and an attention weight of 0 times inf is NaN."""
    for each in buffers:
        each.zero_()
