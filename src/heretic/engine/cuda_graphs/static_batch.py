"""A batch whose tensors stay where they are, so that a recorded step can be run on it again and again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, StaticLayer

from ..kv_cache import RoomyLayer
from ..prefill import Prefilled

SHARES = (1.0, 0.75, 0.5, 0.375, 0.25, 0.1875, 0.125, 0.0625)
"""Of the rows: the sizes that a batch shrinks to."""

POSITIONS = 32
PROOF_STEPS = 2


@dataclass(frozen=True, slots=True)
class BatchCapacity:
    """What a batch must have room for: rows, positions (of prompts and responses), tokens of a response, candidates and
    the rank of their edits."""

    rows: int
    positions: int
    tokens: int
    candidates: int
    rank: int

    def covers(self, other: "BatchCapacity") -> bool:
        return self.with_room_for(other) == self

    def with_room_for(self, other: "BatchCapacity") -> "BatchCapacity":
        return BatchCapacity(*(max(getattr(self, name), getattr(other, name)) for name in self.__slots__))

    @property
    def sizes(self) -> list[int]:
        """The numbers of rows that a step is recorded for, the largest first."""
        return sorted({max(1, round(self.rows * share)) for share in SHARES}, reverse=True)

    @property
    def capacity(self) -> int:
        """Positions of the buffers. Kernels like a multiple of 8 or 16; a few sizes serve all prompts."""
        return -(-(self.positions + PROOF_STEPS) // POSITIONS) * POSITIONS


class FixedLayer(StaticLayer):
    """One layer's keys and values, written at the position that a tensor tells (the library's own counts in each)."""

    def __init__(self, keys: Tensor, values: Tensor, column: Tensor, is_sliding: bool) -> None:
        super().__init__(keys.shape[-2])
        self.keys, self.values, self.cumulative_length = keys, values, column
        self.is_sliding = is_sliding
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        assert self.keys is not None
        assert self.values is not None
        self.keys.index_copy_(2, self.cumulative_length, key_states)
        self.values.index_copy_(2, self.cumulative_length, value_states)
        return self.keys, self.values


class StaticBatchView:
    """The first rows of a batch, as a step sees them.

    `ids` and `places` (rows, 1): the newest token and its position in its own row; `mask` (rows, 1, 1, positions) is
    added to the scores; `candidates` (rows,); `cache` of keys and values; `chosen` (tokens, rows); the newest `logits`
    (rows, vocab).
    """

    def __init__(self, batch: "FixedBatch", rows: int) -> None:
        self.ids, self.places, self.mask = batch.ids[:rows], batch.places[:rows], batch.mask[:rows]
        self.candidates, self.chosen = batch.candidates[:rows], batch.chosen[:, :rows]
        self.logits = batch.logits[:rows]
        layers = [
            FixedLayer(keys[:rows], values[:rows], batch.column, sliding)
            for keys, values, sliding in zip(batch.keys, batch.values, batch.sliding, strict=True)
        ]
        self.cache = Cache(layers=layers)  # type: ignore[arg-type]


class FixedBatch:
    """Room for `need`, for a model with layers like those that `start` holds.

    `column` (1,) is where keys and values of the next step go; `count` (1,) how many tokens have been chosen.
    """

    def __init__(self, start: Prefilled, need: BatchCapacity) -> None:
        self.need = need
        device, rows, capacity = start.mask.device, need.rows, need.capacity
        layers: Sequence[RoomyLayer] = start.cache.layers
        self.sliding = [bool(layer.is_sliding) for layer in layers]
        self.keys = [_room(layer.keys, rows, capacity) for layer in layers]
        self.values = [_room(layer.values, rows, capacity) for layer in layers]
        self.closed = float(torch.finfo(self.keys[0].dtype).min)
        self.mask = torch.full((rows, 1, 1, capacity), self.closed, dtype=self.keys[0].dtype, device=device)
        self.ids, self.places, self.candidates, self.chosen, self.column, self.count = (
            torch.zeros(shape, dtype=torch.long, device=device)
            for shape in ((rows, 1), (rows, 1), (rows,), (need.tokens + PROOF_STEPS, rows), (1,), (1,))
        )
        self.logits = start.logits.new_zeros(rows, start.logits.shape[1])
        self._begun: tuple[Tensor, ...] = ()

    def load(self, start: Prefilled, first: Tensor) -> None:
        """Takes over the rows of `start`, whose `first` (rows,) tokens have been chosen; the others stay empty."""
        rows, positions = start.mask.shape
        for layer, keys, values in zip(start.cache.layers, self.keys, self.values, strict=True):
            for whole, given in ((keys, layer.keys), (values, layer.values)):
                # What an earlier batch left might not be finite, and a weight of 0 times that is not 0.
                whole.zero_()
                whole[:rows, :, :positions] = given
        self.mask.fill_(self.closed)
        self.mask[:rows, 0, 0, :positions].masked_fill_(start.mask.bool(), 0.0)
        for each in (self.ids, self.places, self.candidates, self.chosen):
            each.zero_()
        self.ids[:rows, 0] = first
        self.places[:rows, 0] = start.mask.sum(dim=1)
        self.candidates[:rows] = start.candidates.to(self.candidates.device)
        self.chosen[0, :rows] = first
        self.column.fill_(positions)
        self.count.fill_(1)
        self._begun = tuple(each.clone() for each in self._moving)

    def rewind(self) -> None:
        """Back to where `load` ended; keys and values of later positions stay, behind the mask."""
        for now, then in zip(self._moving, self._begun, strict=True):
            now.copy_(then)

    @property
    def _moving(self) -> tuple[Tensor, ...]:
        return self.ids, self.places, self.mask, self.chosen, self.column, self.count

    def keep(self, index: Tensor) -> None:
        """The rows at `index` become the first ones."""
        count = len(index)
        for each in (*self.keys, *self.values, self.ids, self.places, self.mask, self.candidates):
            each[:count] = each[index]

    def read(self, begin: int, end: int, count: int) -> "AsyncTokens":
        """Tokens `begin` to `end` of the first `count` rows."""
        return AsyncTokens(self.chosen[begin:end, :count])


class AsyncTokens:
    """Tokens, (tokens, rows), on their way to the host, while the device goes on with what comes after them."""

    def __init__(self, tokens: Tensor) -> None:
        self._arrived: Any = None
        if tokens.device.type != "cuda":
            self._tokens = tokens.clone()
            return
        self._tokens = torch.empty(tokens.shape, dtype=tokens.dtype, pin_memory=True)
        self._tokens.copy_(tokens, non_blocking=True)
        self._arrived = torch.cuda.Event()
        self._arrived.record(torch.cuda.current_stream(tokens.device))

    def tokens(self) -> list[list[int]]:
        """Waits until they are there."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._tokens.tolist()


def _room(part: Tensor | None, rows: int, capacity: int) -> Tensor:
    assert part is not None
    return part.new_zeros(rows, part.shape[1], capacity, part.shape[3])
