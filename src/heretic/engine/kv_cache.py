"""Caches of keys and values: preallocated, so that positions are appended and rows dropped without copying the rest."""

import sys
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import (
    Cache,
    DynamicCache,
    DynamicIndexedLayer,
    DynamicLayer,
    DynamicSlidingWindowLayer,
)

from ..model.kernels.decode_attention import NAME as DECODE_ATTENTION

HEADROOM = 32
"""Free positions after a buffer has grown: growing copies it, so that a token costs 1/32 of a copy."""


@runtime_checkable
class KVCache(Protocol):
    """The interface of a transformers cache, or of a model's own subclass. `layers` are of the library's types:
    attention layers have `keys` and `values`, (rows, heads, positions, head_dim); others keep a state."""

    layers: list[Any]

    def get_seq_length(self, layer_idx: int = 0) -> int: ...

    def batch_select_indices(self, indices: Tensor) -> None: ...


class PreallocatedLayer(DynamicLayer):
    """One layer's keys and values, (rows, heads, positions, head_dim), in buffers with free positions at the end.

    transformers' own layer copies everything at every new token. `transposed` keys are stored as (rows, heads,
    head_dim, positions), which the attention of model/kernels/decode_attention.py reads.
    """

    def __init__(self, is_sliding: bool = False, transposed: bool = False) -> None:
        super().__init__()
        self.transposed = transposed
        # While all positions fit the window, a sliding layer differs by its mask alone, which depends on this flag.
        self.is_sliding = is_sliding
        self._length = 0
        self._buffers: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self._length + key_states.shape[-2]
        keys, values = self._grown(key_states, value_states, end)
        (keys.mT if self.transposed else keys)[:, :, self._length : end] = key_states
        values[:, :, self._length : end] = value_states
        self._set(keys, values, end)
        assert self.keys is not None
        assert self.values is not None
        # torch's attention kernel, which prefill uses, needs the features of a key side by side.
        return self.keys if key_states.shape[-2] == 1 else self.keys.contiguous(), self.values

    def empty_like(self) -> "PreallocatedLayer":
        """An empty layer of this kind."""
        return PreallocatedLayer(bool(self.is_sliding), self.transposed)

    def over(self, keys: Tensor, values: Tensor) -> "PreallocatedLayer":
        """An empty layer of this kind that writes to these buffers, (rows, heads, positions, head_dim).

        Positions that are not written yet must be finite. Keys are not stored transposed.
        """
        assert not self.transposed, "buffers of transposed keys have another shape"
        layer = self.empty_like()
        layer.lazy_initialization(keys, values)
        layer._set(keys, values, 0)
        return layer

    def batch_select_indices(self, indices: Tensor) -> None:
        if self._buffers is not None:
            # Layers may be on several devices.
            index = indices.to(self._buffers[0].device)
            self._set(self._buffers[0][index], self._buffers[1][index], self._length)

    def batch_repeat_interleave(self, repeats: int) -> None:
        if self._buffers is not None:
            keys, values = (buffer.repeat_interleave(repeats, dim=0) for buffer in self._buffers)
            self._set(keys, values, self._length)

    def truncate(self, length: int) -> None:
        """Drops the positions after the first `length`."""
        if self._buffers is not None and length < self._length:
            self._set(*self._buffers, length)

    def _grown(self, keys: Tensor, values: Tensor, end: int) -> tuple[Tensor, Tensor]:
        """Buffers of at least `end` positions, with the present content."""
        if self._buffers is not None and end <= self._buffers[1].shape[-2]:
            return self._buffers
        grown = [part.new_zeros(*part.shape[:-2], end + HEADROOM, part.shape[-1]) for part in (keys, values)]
        if self.transposed:
            grown[0] = grown[0].mT.contiguous()
        if self._buffers is not None:
            old, dim = self._buffers, -1 if self.transposed else -2
            grown[0].narrow(dim, 0, self._length).copy_(old[0].narrow(dim, 0, self._length))
            grown[1][:, :, : self._length] = old[1][:, :, : self._length]
        return grown[0], grown[1]

    def _set(self, keys: Tensor, values: Tensor, length: int) -> None:
        self._buffers, self._length = (keys, values), length
        self.keys, self.values = (keys.mT if self.transposed else keys)[:, :, :length], values[:, :, :length]


def make_cache(config: Any, max_positions: int) -> KVCache:
    """An empty cache for at most `max_positions`: the model's own where it has one; else preallocated where its layers
    allow it; else transformers' own."""
    own = _own_cache(config)
    if own is not None:
        return own()
    cache: Any = DynamicCache(config=config)
    if is_kv_only(cache, max_positions):
        transposed = getattr(config, "_attn_implementation", None) == DECODE_ATTENTION
        cache.layers = [PreallocatedLayer(bool(layer.is_sliding), transposed) for layer in cache.layers]
    return cache


def _own_cache(config: Any) -> type[Any] | None:
    """The cache class in the module of the model's code, if there is one (MiniMax accepts no other)."""
    module = sys.modules.get(type(config).__module__.replace(".configuration_", ".modeling_"))
    if module is None:
        return None
    own = [each for each in vars(module).values() if isinstance(each, type) and issubclass(each, DynamicCache)]
    return next((each for each in own if each.__module__ == module.__name__), None)


def is_kv_only(cache: KVCache, max_positions: int) -> bool:
    """Whether the cache holds keys and values alone (no recurrent state), all positions within any sliding window.

    Only such a cache can be split at a position, joined with another and padded.
    """
    return (
        type(cache) in (Cache, DynamicCache)
        and bool(cache.layers)
        and all(
            type(layer) in (DynamicLayer, PreallocatedLayer)
            # The type itself: its subclasses keep more than keys and values.
            or (type(layer) is DynamicSlidingWindowLayer and max_positions <= layer.sliding_window)
            for layer in cache.layers
        )
    )


def is_preallocated(cache: KVCache) -> bool:
    return bool(cache.layers) and all(type(layer) is PreallocatedLayer for layer in cache.layers)


def cache_bytes(cache: KVCache) -> int:
    """Memory of all tensors in a cache: keys and values, whose sizes may differ by layer, or states."""
    storages = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in _tensors(cache, set())}
    return sum(storages.values())


def _tensors(value: Any, seen: set[int]) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
        return
    if id(value) in seen or isinstance(value, type):
        return
    seen.add(id(value))
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    for each in (*inner, *getattr(value, "__dict__", {}).values()):
        yield from _tensors(each, seen)


def select_rows(cache: KVCache, n_rows: int, index: Int[Tensor, " kept"]) -> None:
    """Keeps the rows at `index` of the `n_rows` in the cache, in place.

    transformers' layers of linear attention, convolutions and compressed keys have no such method: every tensor that
    they keep with `n_rows` first is indexed. A model's own cache has one.
    """
    if type(cache) not in (Cache, DynamicCache):
        cache.batch_select_indices(index)
        return
    for layer in cache.layers:
        if isinstance(layer, (PreallocatedLayer, DynamicIndexedLayer)):
            layer.batch_select_indices(index)
        else:
            vars(layer).update({name: _selected(value, n_rows, index) for name, value in vars(layer).items()})


def _selected(value: Any, n_rows: int, index: Tensor) -> Any:
    if isinstance(value, Tensor) and value.dim() and value.shape[0] == n_rows:
        return value[index.to(value.device)]
    if type(value) is dict:
        return {key: _selected(each, n_rows, index) for key, each in value.items()}
    return [_selected(each, n_rows, index) for each in value] if type(value) is list else value


def spread_rows(cache: KVCache, index: Int[Tensor, " row"], into: KVCache | None = None) -> KVCache:
    """The rows of `cache` at `index`, which may repeat, in an empty cache: `into`, or a new one."""
    target: Any = Cache(layers=[layer.empty_like() for layer in cache.layers]) if into is None else into
    for new, old in zip(target.layers, cache.layers, strict=True):
        if old.get_seq_length():
            # Layers may be on several devices.
            own = index.to(old.keys.device)
            new.update(old.keys[own], old.values[own])
    return target


def join_rows(caches: Sequence[KVCache], n_shared: int) -> KVCache:
    """The rows of all caches in one. All begin with the same `n_shared` positions and end at the same position.

    Between the two, shorter caches get zeros, which their mask must exclude.
    """
    longest = max(cache.get_seq_length() for cache in caches)
    joined: Any = Cache(layers=[layer.empty_like() for layer in caches[0].layers])
    for number, new in enumerate(joined.layers):
        parts = [cache.layers[number] for cache in caches]
        if parts[0].get_seq_length():
            new.update(
                torch.cat([_with_gap(part.keys, n_shared, longest) for part in parts]),
                torch.cat([_with_gap(part.values, n_shared, longest) for part in parts]),
            )
    return joined


def stretch_mask(mask: Int[Tensor, "row position"], n_shared: int, longest: int) -> Int[Tensor, "row longest"]:
    """The mask with positions inserted after the first `n_shared`, excluded from attention, up to `longest`."""
    gap = mask.new_zeros(len(mask), longest - mask.shape[1])
    return torch.cat([mask[:, :n_shared], gap, mask[:, n_shared:]], dim=1)


def _with_gap(
    part: Float[Tensor, "row head position feature"], n_shared: int, longest: int
) -> Float[Tensor, "row head longest feature"]:
    gap = part.new_zeros(*part.shape[:-2], longest - part.shape[-2], part.shape[-1])
    return torch.cat([part[:, :, :n_shared], gap, part[:, :, n_shared:]], dim=-2)
