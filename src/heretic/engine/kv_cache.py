"""Keys and values of past positions, in buffers that rows can leave and positions be appended to cheaply."""

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import (
    Cache,
    DynamicCache,
    DynamicIndexedLayer,
    DynamicLayer,
    DynamicSlidingWindowLayer,
)

from ..model.kernels.decode_attention import NAME as DECODE_ATTENTION

ROOM = 32


class RoomyLayer(DynamicLayer):
    """One layer's keys and values, (rows, heads, positions, head_dim), with room behind the last position.

    The library's own layer copies all it holds at every new token. `transposed` keys lie in memory as (rows, heads,
    head_dim, positions), which only the attention of model/kernels/decode_attention.py gains by.
    """

    def __init__(self, is_sliding: bool = False, transposed: bool = False) -> None:
        super().__init__()
        self.transposed = transposed
        # While all positions fit the window, a sliding layer differs in its mask alone, which asks for this.
        self.is_sliding = is_sliding
        self._length = 0
        self._buffers: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self._length + key_states.shape[-2]
        keys, values = self._with_room(key_states, value_states, end)
        (keys.mT if self.transposed else keys)[:, :, self._length : end] = key_states
        values[:, :, self._length : end] = value_states
        self._show(keys, values, end)
        assert self.keys is not None
        assert self.values is not None
        # The library's kernel, which runs several new positions, wants features side by side.
        return self.keys if key_states.shape[-2] == 1 else self.keys.contiguous(), self.values

    def like(self) -> "RoomyLayer":
        """An empty layer of this kind."""
        return RoomyLayer(bool(self.is_sliding), self.transposed)

    def batch_select_indices(self, indices: Tensor) -> None:
        if self._buffers is not None:
            # Layers may lie on several devices.
            index = indices.to(self._buffers[0].device)
            self._show(self._buffers[0][index], self._buffers[1][index], self._length)

    def batch_repeat_interleave(self, repeats: int) -> None:
        if self._buffers is not None:
            keys, values = (buffer.repeat_interleave(repeats, dim=0) for buffer in self._buffers)
            self._show(keys, values, self._length)

    def shorten(self, length: int) -> None:
        """Forgets the positions behind the first `length`."""
        if self._buffers is not None and length < self._length:
            self._show(*self._buffers, length)

    def _with_room(self, keys: Tensor, values: Tensor, end: int) -> tuple[Tensor, Tensor]:
        if self._buffers is not None and end <= self._buffers[1].shape[-2]:
            return self._buffers
        grown = [part.new_zeros(*part.shape[:-2], end + ROOM, part.shape[-1]) for part in (keys, values)]
        if self.transposed:
            grown[0] = grown[0].mT.contiguous()
        if self._buffers is not None:
            old = self._buffers
            grown[0].narrow(self._positions, 0, self._length).copy_(old[0].narrow(self._positions, 0, self._length))
            grown[1][:, :, : self._length] = old[1][:, :, : self._length]
        return grown[0], grown[1]

    @property
    def _positions(self) -> int:
        """The dimension of positions in the buffer of keys."""
        return -1 if self.transposed else -2

    def _show(self, keys: Tensor, values: Tensor, length: int) -> None:
        self._buffers, self._length = (keys, values), length
        self.keys, self.values = (keys.mT if self.transposed else keys)[:, :, :length], values[:, :, :length]


def make_cache(config: Any, most_positions: int) -> Any:
    """An empty cache for at most `most_positions`: with room where the model's layers allow it, the library's own
    otherwise, or the model's own where it has one."""
    own = _own_cache(config)
    if own is not None:
        return own()
    cache: Any = DynamicCache(config=config)
    if can_be_divided(cache, most_positions):
        transposed = getattr(config, "_attn_implementation", None) == DECODE_ATTENTION
        cache.layers = [RoomyLayer(bool(layer.is_sliding), transposed) for layer in cache.layers]
    return cache


def _own_cache(config: Any) -> Any:
    """The cache that stands beside the model's code (MiniMax takes no other), if there is one."""
    module = sys.modules.get(type(config).__module__.replace(".configuration_", ".modeling_"))
    if module is None:
        return None
    own = [each for each in vars(module).values() if isinstance(each, type) and issubclass(each, DynamicCache)]
    return next((each for each in own if each.__module__ == module.__name__), None)


def can_be_divided(cache: Any, most_positions: int) -> bool:
    """Whether the cache is one of positions alone (no recurrent state), all of them within any sliding window."""
    return (
        type(cache) in (Cache, DynamicCache)
        and bool(cache.layers)
        and all(
            type(layer) in (DynamicLayer, RoomyLayer)
            # The type itself: its subclasses keep more than keys and values.
            or (type(layer) is DynamicSlidingWindowLayer and most_positions <= layer.sliding_window)
            for layer in cache.layers
        )
    )


def select_rows(cache: Any, rows: int, index: Tensor) -> None:
    """Keeps the rows at `index` of the `rows` that the cache holds, in place.

    The library's layers of linear attention, convolutions and compressed keys can't do that themselves: whatever tensor
    a layer keeps has rows first. A model's own cache can.
    """
    if type(cache) not in (Cache, DynamicCache):
        cache.batch_select_indices(index)
        return
    for layer in cache.layers:
        if isinstance(layer, (RoomyLayer, DynamicIndexedLayer)):
            layer.batch_select_indices(index)
        else:
            vars(layer).update({name: _selected(value, rows, index) for name, value in vars(layer).items()})


def _selected(value: Any, rows: int, index: Tensor) -> Any:
    if isinstance(value, Tensor) and value.dim() and value.shape[0] == rows:
        return value[index.to(value.device)]
    if type(value) is dict:
        return {key: _selected(each, rows, index) for key, each in value.items()}
    return [_selected(each, rows, index) for each in value] if type(value) is list else value


def copy_rows(cache: Any, repeats: int) -> Any:
    """A cache with each row of `cache` `repeats` times; `cache` stays as it is."""
    copied: Any = Cache(layers=[layer.like() for layer in cache.layers])
    for new, old in zip(copied.layers, cache.layers, strict=True):
        if old.get_seq_length():
            new.update(old.keys.repeat_interleave(repeats, dim=0), old.values.repeat_interleave(repeats, dim=0))
    return copied


def join_rows(caches: Sequence[Any], shared: int) -> Any:
    """The rows of all caches in one; each begins with `shared` positions, and ends where the longest ends.

    Between the two, shorter caches get positions that their mask must leave out.
    """
    longest = max(cache.get_seq_length() for cache in caches)
    joined: Any = Cache(layers=[layer.like() for layer in caches[0].layers])
    for number, new in enumerate(joined.layers):
        parts = [cache.layers[number] for cache in caches]
        if parts[0].get_seq_length():
            new.update(
                torch.cat([_stretch(part.keys, shared, longest) for part in parts]),
                torch.cat([_stretch(part.values, shared, longest) for part in parts]),
            )
    return joined


def stretch_mask(mask: Tensor, shared: int, longest: int) -> Tensor:
    """A mask, (rows, positions), of `longest` positions, the new ones left out, behind the `shared` first."""
    gap = mask.new_zeros(len(mask), longest - mask.shape[1])
    return torch.cat([mask[:, :shared], gap, mask[:, shared:]], dim=1)


def _stretch(part: Tensor, shared: int, longest: int) -> Tensor:
    gap = part.new_zeros(*part.shape[:-2], longest - part.shape[-2], part.shape[-1])
    return torch.cat([part[:, :, :shared], gap, part[:, :, shared:]], dim=-2)
