"""A model in three parts: the layers below the first edited one, those from there on, and the final norm and head.

Models that pass more than one hidden state between layers run as a whole.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...model.layers import hidden, hooks
from ...model.loading.load import LoadedModel
from ..forward import Forward
from .replaced import replaced_forwards

PROOF = {True: 1e-3, False: 0.05}
"""Tolerance for equal logits, as a share of the largest one: for fp32 (True), and for 16-bit formats (False)."""


class ModelParts:
    """Runs parts of the model; `first_layer` is the first that any edit changes."""

    def __init__(self, loaded: LoadedModel, forward: Forward, pad: int, first_layer: int) -> None:
        self.loaded = loaded
        self.layers = loaded.layers
        self.forward = forward
        self.pad = pad
        self.first = first_layer
        self._returned: int | None = None
        self.divisible: bool | None = None
        """Whether the model can run in parts; None before `prove`."""

    def prove(self, ids: Tensor, mask: Tensor) -> None:
        """Sets `divisible`: whether the layers from the first edited one on, and the head by itself, give the logits of
        the whole model. They may not where a model has several residual streams, or where its layers pass on more than
        the stream."""
        with self.observing({}) as seen:
            logits = self.forward.last_logits(ids, mask, 1)
        below, last = seen[self.first], seen[len(self.layers)]
        shape = (*ids.shape, self.loaded.d_model)
        if below.shape != shape or last.shape != shape:
            self.divisible = False
            return
        self.divisible = True
        with self.skipping(self.first, below), self.observing({}) as seen:
            above = self.forward.last_logits(ids, mask, 1)
        same_last = _close(seen[len(self.layers)][:, -1], last[:, -1])
        self.divisible = same_last and _close(above, logits) and _close(self.head(last[:, -2:])[:, -1:], logits)

    def head(self, states: Tensor) -> Tensor:
        """Logits, (row, scored, vocab), from the last layer's output; all layers are skipped."""
        if not self.divisible:
            return states
        blank = torch.full(states.shape[:2], self.pad, device=self.loaded.device)
        with self.skipping(len(self.layers), states):
            return self.forward.last_logits(blank, torch.ones_like(blank), states.shape[1])

    def all_logits(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Logits of all positions, (row, position, vocab), from the whole model."""
        return self.forward.last_logits(ids, mask, ids.shape[1])

    @contextmanager
    def observing(self, seen: dict[int, Tensor]) -> Iterator[dict[int, Tensor]]:
        """Sets `seen[n]` to the output of the first n layers: at the first edited layer, and after the last."""

        def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            seen[self.first] = args[0] if args else kwargs["hidden_states"]

        def after(_: nn.Module, __: Any, output: Any) -> None:
            self._returned = len(output) if isinstance(output, tuple) else None
            seen[len(self.layers)] = hidden(output)

        first = self.layers[self.first].register_forward_pre_hook
        last = self.layers[-1].register_forward_hook
        with hooks(partial(first, before, with_kwargs=True), partial(last, after)):
            yield seen

    @contextmanager
    def skipping(self, count: int, states: Tensor) -> Iterator[None]:
        """Skips the first `count` layers; the last of them returns `states`."""

        def stand_in(index: int, *args: Any, **kwargs: Any) -> Any:
            return self._output(states if index == count - 1 else _input(args, kwargs))

        with replaced_forwards({layer: partial(stand_in, n) for n, layer in enumerate(self.layers[:count])}):
            yield

    @contextmanager
    def without_upper(self) -> Iterator[None]:
        """Skips the layers from the first edited one on; each returns its input."""

        def stand_in(*args: Any, **kwargs: Any) -> Any:
            return self._output(_input(args, kwargs))

        with replaced_forwards(dict.fromkeys(self.layers[self.first :], stand_in)):
            yield

    def _output(self, states: Tensor) -> Any:
        return states if self._returned is None else (states, *[None] * (self._returned - 1))


def _input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0] if args else kwargs["hidden_states"]


def _close(first: Tensor, second: Tensor) -> bool:
    """Whether two results of the same operations in another batching are the same but for rounding."""
    tolerance = PROOF[second.dtype == torch.float32] * float(second.abs().max())
    return bool(((first - second).abs() <= tolerance).all())
