"""Layers below the first edited one, once: what they give is the baseline's, whoever the candidate is."""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from ..model.layers import hidden, hooks

CUTS = 16
SHARE_OF_MEMORY = 0.2


@dataclass
class Kept:
    """What one slice of prompts gave in the baseline, for one candidate's rows.

    `states[n]` (rows, positions, d_model) is the output of the first n layers; `cached[layer]` are keys and values,
    each (rows, heads, positions, head_dim).
    """

    states: dict[int, Tensor] = field(default_factory=dict)
    cached: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def deepest(self, limit: int) -> int:
        """The most layers, at most `limit`, that need not run; 0 if nothing is kept."""
        return max((n for n in self.states if n <= limit), default=0)


class UntouchedLayers:
    """Skips the layers that no candidate of a forward edits, where an earlier forward of the same prompts ran them.

    Every forward leaves behind what its own untouched layers gave, while `budget` bytes last. That layers hand on
    nothing but their hidden state is not taken for granted: the first forward that skips is run in full as well, and
    if the logits differ, nothing is skipped again.
    """

    def __init__(self, layers: nn.ModuleList, budget: int | None = None) -> None:
        self._layers = layers
        self._stride = max(1, -(-len(layers) // CUTS))
        self._left = budget if budget is not None else _budget(next(layers.parameters()).device)
        self._kept: dict[Hashable, Kept] = {}
        self._returned: int | None = None
        self._proved = False
        self.works = True

    def run(
        self,
        key: Hashable,
        untouched: int,
        n_candidates: int,
        cache: Any,
        going_on: bool,
        forward: Callable[[], Tensor],
    ) -> Tensor:
        """Logits of `forward`, which runs the prompts of `key` over `cache` with the first `untouched` layers unedited.

        With `going_on`, the cache is complete afterwards; without, its lower layers may miss these positions.
        """
        if not self.works or untouched == 0:
            return forward()
        kept = self._kept.setdefault((key, going_on), Kept())
        skip = kept.deepest(untouched)
        before = cache.get_seq_length()
        if skip and not self._proved and not self._prove(kept, skip, n_candidates, cache, forward):
            return forward()
        with self._skipping(kept, skip, n_candidates), self._keeping(kept, skip, untouched, n_candidates):
            logits = forward()
        if going_on:
            _fill(cache, kept, skip, n_candidates)
            self._keep_cached(cache, kept, before, n_candidates)
        return logits

    def _prove(self, kept: Kept, skip: int, n_candidates: int, cache: Any, forward: Callable[[], Tensor]) -> bool:
        """Whether skipping gives the logits of a full forward; the cache is as before."""
        length = cache.get_seq_length()
        full = forward()
        _crop(cache, length)
        with self._skipping(kept, skip, n_candidates):
            skipped = forward()
        _crop(cache, length)
        self._proved = True
        # The same operations on the same numbers: only another batching can round differently.
        self.works = bool(torch.allclose(full.float(), skipped.float(), rtol=1e-3, atol=1e-3 * float(full.abs().max())))
        return self.works

    @contextmanager
    def _skipping(self, kept: Kept, skip: int, n_candidates: int) -> Iterator[None]:
        """The first `skip` layers give what is kept, and do nothing."""
        replaced: list[tuple[nn.Module, Any]] = []

        def stand_in(index: int, *args: Any, **kwargs: Any) -> Any:
            given = args[0] if args else kwargs["hidden_states"]
            output = kept.states[skip].repeat(n_candidates, 1, 1) if index == skip - 1 else given
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
    def _keeping(self, kept: Kept, skip: int, untouched: int, n_candidates: int) -> Iterator[None]:
        """Layers above `skip`, at every cut up to `untouched`, leave their output behind."""

        def keep(count: int, _: nn.Module, __: Any, output: Any) -> None:
            # What else some families return (attention weights) is for callers that ask for it.
            self._returned = len(output) if isinstance(output, tuple) else None
            states = hidden(output)
            if self._affords(states.nbytes // n_candidates):
                kept.states[count] = states[: len(states) // n_candidates].clone()

        cuts = [n for n in range(skip + 1, untouched + 1) if n % self._stride == 0 and n < len(self._layers)]
        with hooks(*(partial(self._layers[n - 1].register_forward_hook, partial(keep, n)) for n in cuts)):
            yield

    def _keep_cached(self, cache: Any, kept: Kept, before: int, n_candidates: int) -> None:
        for number in range(max(kept.states, default=0)):
            if number in kept.cached:
                continue
            layer = cache.layers[number]
            parts = [part[: len(part) // n_candidates, :, before:] for part in (layer.keys, layer.values)]
            if not self._affords(sum(part.nbytes for part in parts)):
                # Without its keys and values a layer can't be skipped.
                kept.states = {n: state for n, state in kept.states.items() if n <= number}
                return
            kept.cached[number] = (parts[0].clone(), parts[1].clone())

    def _affords(self, size: int) -> bool:
        if size > self._left:
            return False
        self._left -= size
        return True


def _fill(cache: Any, kept: Kept, skip: int, n_candidates: int) -> None:
    """Keys and values of the layers that did not run."""
    for number in range(skip):
        keys, values = (part.repeat(n_candidates, 1, 1, 1) for part in kept.cached[number])
        cache.layers[number].update(keys, values)


def _crop(cache: Any, length: int) -> None:
    for layer in cache.layers:
        layer.shorten(length)


def _budget(device: torch.device) -> int:
    """Bytes that may be kept: a share of the memory that is free now."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    return int(SHARE_OF_MEMORY * free)
