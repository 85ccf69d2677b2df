"""Layers below the first edited one, once: what they give is the baseline's, whoever the candidate is."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from ..model.layers import hidden, hooks

CUTS = 16
SHARE_OF_MEMORY = 0.1
PROOF = {True: 1e-4, False: 0.05}
"""Of the largest logit: how far fp32 (True) and shorter formats may round apart."""


@dataclass
class CachedPrompt:
    """What one prompt gave in the baseline, at its own positions, without padding.

    `states[n]` (positions, d_model) is the output of the first n layers; `cached` (layers, 2, heads, positions,
    head_dim) are keys and values of the lowest layers, where they are needed.
    """

    states: dict[int, Tensor] = field(default_factory=dict)
    cached: Tensor | None = None

    def deepest(self, limit: int, going_on: bool) -> int:
        """The most layers, at most `limit`, that need not run; 0 if nothing is kept."""
        if going_on:
            limit = min(limit, 0 if self.cached is None else len(self.cached))
        return max((n for n in self.states if n <= limit), default=0)


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a forward: a key a prompt, the number of its new positions, and for how many candidates each runs.

    With `going_on`, the cache must be complete afterwards; without, its lower layers may miss these positions.
    """

    keys: Sequence[Hashable]
    lengths: Sequence[int]
    n_candidates: int
    going_on: bool


class LowerLayerCache:
    """Skips the layers that no candidate of a forward edits, where earlier forwards of the same prompts ran them.

    Every forward leaves behind what its own untouched layers gave, while `budget` bytes last. That layers hand on
    nothing but their hidden state is not taken for granted: the first forward that skips is run in full as well, and
    if the logits differ, nothing is skipped again.
    """

    def __init__(self, layers: nn.ModuleList, budget: int | None = None) -> None:
        self._layers = layers
        self._stride = max(1, -(-len(layers) // CUTS))
        self._left = budget if budget is not None else _budget(next(layers.parameters()).device)
        self._kept: dict[Hashable, CachedPrompt] = {}
        self._returned: int | None = None
        self._proved = False
        self.works = True

    def run(self, rows: Rows, untouched: int, cache: Any, forward: Callable[[], Tensor]) -> Tensor:
        """Logits of `forward`, which runs `rows` over `cache` with the first `untouched` layers unedited."""
        if not self.works or untouched == 0:
            return forward()
        kept = [self._kept.setdefault(key, CachedPrompt()) for key in rows.keys]
        skip = min(each.deepest(untouched, rows.going_on) for each in kept)
        states = _padded([each.states[skip] for each in kept], rows.n_candidates) if skip else None
        if states is not None and not self._proved and not self._prove(states, skip, cache, forward):
            return forward()
        with self._skipping(states, skip), self._keeping(kept, rows, skip, untouched):
            logits = forward()
        if rows.going_on:
            _fill(cache, kept, skip, rows.n_candidates)
            self._keep_cached(cache, kept, rows, untouched)
        return logits

    def _prove(self, states: Tensor, skip: int, cache: Any, forward: Callable[[], Tensor]) -> bool:
        """Whether skipping gives the logits of a full forward; the cache is as before."""
        length = cache.get_seq_length()
        full = forward()
        _crop(cache, length)
        with self._skipping(states, skip):
            skipped = forward()
        _crop(cache, length)
        self._proved = True
        # The same operations on the same numbers, but for another batching: more than rounding is another model.
        tolerance = PROOF[full.dtype == torch.float32] * float(full.abs().max())
        self.works = bool(((full - skipped).abs() <= tolerance).all())
        return self.works

    @contextmanager
    def _skipping(self, states: Tensor | None, skip: int) -> Iterator[None]:
        """The first `skip` layers give `states`, and do nothing."""
        replaced: list[tuple[nn.Module, Any]] = []

        def stand_in(index: int, *args: Any, **kwargs: Any) -> Any:
            output = states if index == skip - 1 else args[0] if args else kwargs["hidden_states"]
            return output if self._returned is None else (output, *[None] * (self._returned - 1))

        try:
            for index, layer in enumerate(self._layers[:skip]):
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
    def _keeping(self, kept: Sequence[CachedPrompt], rows: Rows, skip: int, untouched: int) -> Iterator[None]:
        """Layers above `skip`, at every cut up to `untouched`, leave their output behind."""

        def keep(count: int, _: nn.Module, __: Any, output: Any) -> None:
            # What else some families return (attention weights) is for callers that ask for it.
            self._returned = len(output) if isinstance(output, tuple) else None
            for each, length, state in zip(kept, rows.lengths, hidden(output), strict=False):
                if count not in each.states and self._affords(state[-length:].nbytes):
                    each.states[count] = state[-length:].clone()

        cuts = [n for n in range(skip + 1, untouched + 1) if n % self._stride == 0 and n < len(self._layers)]
        with hooks(*(partial(self._layers[n - 1].register_forward_hook, partial(keep, n)) for n in cuts)):
            yield

    def _keep_cached(self, cache: Any, kept: Sequence[CachedPrompt], rows: Rows, untouched: int) -> None:
        """Keys and values of the layers below each prompt's deepest cut; never of layers that this forward edits,
        though an earlier one may have left deeper cuts."""
        for row, (each, length) in enumerate(zip(kept, rows.lengths, strict=True)):
            depth = max((n for n in each.states if n <= untouched), default=0)
            if depth <= (0 if each.cached is None else len(each.cached)):
                continue
            parts = [(layer.keys[row, :, -length:], layer.values[row, :, -length:]) for layer in cache.layers[:depth]]
            same_shape = all(keys.shape == values.shape == parts[0][0].shape for keys, values in parts)
            if same_shape and self._affords(2 * depth * parts[0][0].nbytes):
                each.cached = torch.stack([torch.stack(pair) for pair in parts])

    def _affords(self, size: int) -> bool:
        if size > self._left:
            return False
        self._left -= size
        return True


def _padded(rows: Sequence[Tensor], n_candidates: int) -> Tensor:
    """States (positions, d_model) of rows as one tensor, padded on the left; candidate-major."""
    longest = max(map(len, rows))
    padded = rows[0].new_zeros(len(rows), longest, rows[0].shape[-1])
    for number, row in enumerate(rows):
        padded[number, longest - len(row) :] = row
    return padded.repeat(n_candidates, 1, 1)


def _fill(cache: Any, kept: Sequence[CachedPrompt], skip: int, n_candidates: int) -> None:
    """Keys and values of the layers that did not run; those of padding are left out by the mask."""
    blocks = [each.cached[:skip] for each in kept if each.cached is not None]
    if not skip:
        return
    longest = max(block.shape[-2] for block in blocks)
    padded = blocks[0].new_zeros(*blocks[0].shape[:2], len(blocks), blocks[0].shape[2], longest, blocks[0].shape[-1])
    for number, block in enumerate(blocks):
        padded[:, :, number, :, longest - block.shape[-2] :] = block
    for layer, (keys, values) in zip(cache.layers, padded.repeat(1, 1, n_candidates, 1, 1, 1), strict=False):
        layer.update(keys, values)


def _crop(cache: Any, length: int) -> None:
    for layer in cache.layers:
        layer.shorten(length)


def _budget(device: torch.device) -> int:
    """Bytes that may be kept: a share of the memory that is free now."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    return int(SHARE_OF_MEMORY * free)
