"""Cache of the layers below the first edited one: no candidate affects them, so their outputs are computed once."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..model.accelerator import free_memory
from ..model.layers import hidden, hooks
from .forward import logit_tolerance
from .kv_cache import KVCache

MAX_DEPTHS = 16
"""Depths at which hidden states are kept: a candidate recomputes at most 1/16 of the layers, and a prompt takes at most
16 states."""

MEMORY_FRACTION = 0.1
"""Share of the free memory; the rest is for keys, values and logits of the batches."""


@dataclass
class CachedPrompt:
    """Baseline activations of one prompt, at its own positions, without padding.

    `states[n]` (positions, d_model) is the output of the first n layers; `keys_values` (layers, 2, heads, positions,
    head_dim) are those of the lowest layers, where later tokens need them.
    """

    states: dict[int, Tensor] = field(default_factory=dict)
    keys_values: Tensor | None = None

    def depth(self, limit: int, fills_cache: bool) -> int:
        """The most layers, at most `limit`, that need not run; 0 if nothing is cached."""
        if fills_cache:
            limit = min(limit, 0 if self.keys_values is None else len(self.keys_values))
        return max((n for n in self.states if n <= limit), default=0)


@dataclass(frozen=True, slots=True)
class BatchKeys:
    """The prompts of a forward: a key each, their numbers of new positions, and the number of candidates each runs for.

    With `fills_cache` the KV cache must hold all layers afterwards, since tokens follow; without, its lowest layers may
    lack these positions.
    """

    keys: Sequence[Hashable]
    lengths: Sequence[int]
    n_candidates: int
    fills_cache: bool


class LowerLayerCache:
    """Skips the layers that no candidate of a forward edits, where an earlier forward of the same prompts ran them.

    Every forward stores the outputs of its unedited layers, until `budget` bytes are used. Layers might pass on more
    than their hidden state: the first forward that skips layers also runs in full, and if the logits differ, the cache
    disables itself.
    """

    def __init__(self, layers: nn.ModuleList, budget: int | None = None) -> None:
        self._layers = layers
        self._stride = max(1, -(-len(layers) // MAX_DEPTHS))
        self.bytes_left = budget if budget is not None else _budget(next(layers.parameters()).device)
        self._prompts: dict[Hashable, CachedPrompt] = {}
        self._n_outputs: int | None = None
        self._verified = False
        self.enabled = True

    def run(
        self, batch: BatchKeys, n_unedited: int, cache: KVCache, forward: Callable[[], Tensor]
    ) -> Float[Tensor, "row vocab"]:
        """Logits of `forward`, which runs `batch` over `cache` with the first `n_unedited` layers unedited."""
        if not self.enabled or n_unedited == 0:
            return forward()
        prompts = [self._prompts.setdefault(key, CachedPrompt()) for key in batch.keys]
        n_skipped = min(prompt.depth(n_unedited, batch.fills_cache) for prompt in prompts)
        states = _padded([prompt.states[n_skipped] for prompt in prompts], batch.n_candidates) if n_skipped else None
        if states is not None and not self._verified and not self._verify(states, n_skipped, cache, forward):
            return forward()
        with self._skipping(states, n_skipped), self._storing(prompts, batch, n_skipped, n_unedited):
            logits = forward()
        if batch.fills_cache:
            _fill(cache, prompts, n_skipped, batch.n_candidates)
            self._store_keys_values(cache, prompts, batch, n_unedited)
        return logits

    def _verify(
        self, states: Float[Tensor, "row position d_model"], n_skipped: int, cache: KVCache, forward: Callable[[], Any]
    ) -> bool:
        """Whether skipping gives the logits of a full forward; `cache` is left as it was."""
        length = cache.get_seq_length()
        full = forward()
        _truncate(cache, length)
        with self._skipping(states, n_skipped):
            skipped = forward()
        _truncate(cache, length)
        self._verified = True
        tolerance = logit_tolerance(full.dtype) * float(full.abs().max())
        self.enabled = bool(((full - skipped).abs() <= tolerance).all())
        return self.enabled

    @contextmanager
    def _skipping(self, states: Float[Tensor, "row position d_model"] | None, n_skipped: int) -> Iterator[None]:
        """Skips the first `n_skipped` layers; the last of them returns `states`."""
        replaced: list[tuple[nn.Module, Any]] = []

        def stand_in(index: int, *args: Any, **kwargs: Any) -> Any:
            output = states if index == n_skipped - 1 else args[0] if args else kwargs["hidden_states"]
            return output if self._n_outputs is None else (output, *[None] * (self._n_outputs - 1))

        try:
            for index, layer in enumerate(self._layers[:n_skipped]):
                replaced.append((layer, layer.__dict__.get("forward")))
                layer.forward = partial(stand_in, index)
            yield
        finally:
            for layer, own in replaced:
                if own is None:
                    del layer.forward
                else:
                    layer.forward = own

    @contextmanager
    def _storing(
        self, prompts: Sequence[CachedPrompt], batch: BatchKeys, n_skipped: int, n_unedited: int
    ) -> Iterator[None]:
        """Stores the output of each unedited layer above `n_skipped` at which states are kept."""

        def store(depth: int, _: nn.Module, __: Any, output: Any) -> None:
            # Further outputs of some families (attention weights) are for callers that ask for them.
            self._n_outputs = len(output) if isinstance(output, tuple) else None
            # Rows are candidate-major and unedited so far: the first candidate's are enough.
            for prompt, length, state in zip(prompts, batch.lengths, hidden(output), strict=False):
                if depth not in prompt.states and self._affords(state[-length:].nbytes):
                    prompt.states[depth] = state[-length:].clone()

        depths = [n for n in range(n_skipped + 1, n_unedited + 1) if n % self._stride == 0 and n < len(self._layers)]
        with hooks(*(partial(self._layers[n - 1].register_forward_hook, partial(store, n)) for n in depths)):
            yield

    def _store_keys_values(
        self, cache: KVCache, prompts: Sequence[CachedPrompt], batch: BatchKeys, n_unedited: int
    ) -> None:
        """Stores keys and values up to each prompt's deepest state; never of layers that this forward edits, though an
        earlier one may have stored deeper states."""
        for row, (prompt, length) in enumerate(zip(prompts, batch.lengths, strict=True)):
            depth = max((n for n in prompt.states if n <= n_unedited), default=0)
            if depth <= (0 if prompt.keys_values is None else len(prompt.keys_values)):
                continue
            parts = [(layer.keys[row, :, -length:], layer.values[row, :, -length:]) for layer in cache.layers[:depth]]
            same_shape = all(keys.shape == values.shape == parts[0][0].shape for keys, values in parts)
            if same_shape and self._affords(2 * depth * parts[0][0].nbytes):
                prompt.keys_values = torch.stack([torch.stack(pair) for pair in parts])

    def _affords(self, size: int) -> bool:
        if size > self.bytes_left:
            return False
        self.bytes_left -= size
        return True


def _padded(states: Sequence[Float[Tensor, "_ d_model"]], n_candidates: int) -> Float[Tensor, "row position d_model"]:
    """States of prompts as one tensor, padded on the left; rows are candidate-major."""
    longest = max(map(len, states))
    padded = states[0].new_zeros(len(states), longest, states[0].shape[-1])
    for row, state in enumerate(states):
        padded[row, longest - len(state) :] = state
    return padded.repeat(n_candidates, 1, 1)


def _fill(cache: KVCache, prompts: Sequence[CachedPrompt], n_skipped: int, n_candidates: int) -> None:
    """Keys and values of the layers that did not run; the mask excludes those of padding."""
    blocks = [each.keys_values[:n_skipped] for each in prompts if each.keys_values is not None]
    if not n_skipped:
        return
    longest = max(block.shape[-2] for block in blocks)
    padded = blocks[0].new_zeros(*blocks[0].shape[:2], len(blocks), blocks[0].shape[2], longest, blocks[0].shape[-1])
    for number, block in enumerate(blocks):
        padded[:, :, number, :, longest - block.shape[-2] :] = block
    for layer, (keys, values) in zip(cache.layers, padded, strict=False):
        # Repeated by layer: all layers of all rows would take half the memory of the cache itself.
        layer.update(keys.repeat(n_candidates, 1, 1, 1), values.repeat(n_candidates, 1, 1, 1))


def _truncate(cache: KVCache, length: int) -> None:
    for layer in cache.layers:
        layer.truncate(length)


def _budget(device: torch.device) -> int:
    """Bytes to use at most."""
    return int(MEMORY_FRACTION * free_memory(device))
