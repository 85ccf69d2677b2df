"""One forward pass of a model."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers.cache_utils import LinearAttentionLayer

from .kv_cache import KVCache

Observer = Callable[[Tensor], None]
"""Called with the token ids of a forward, (rows, new positions), before it runs."""


class Forward:
    """Calls a model with the arguments that its forward takes: position ids from the mask, logits of the last
    positions only."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._observers: list[Observer] = []
        taken = inspect.signature(model.forward).parameters
        self.takes_positions = "position_ids" in taken
        self._takes_logits_to_keep = "logits_to_keep" in taken
        # transformers calls it `cache` from 5.24 on; models with code of their own mostly keep the older name.
        self._cache_name = "cache" if "cache" in taken else "past_key_values"
        self.is_stateful = bool(getattr(model, "_is_stateful", False))
        """Whether the model declares that it keeps more than keys and values."""
        head = model.get_output_embeddings()  # type: ignore[operator]
        if head is not None:
            head.register_forward_pre_hook(_contiguous)

    @contextmanager
    def observed(self, observer: Observer) -> Iterator[None]:
        """Calls `observer` before every forward inside the `with` block: to count, time or limit forwards."""
        self._observers.append(observer)
        try:
            yield
        finally:
            self._observers.remove(observer)

    def __call__(
        self, ids: Int[Tensor, "row new"], mask: Int[Tensor, "row position"], cache: KVCache | None = None
    ) -> Float[Tensor, "row vocab"]:
        """Logits of the last position. `mask` covers the positions in `cache` and the new ones, which `cache` holds
        afterwards."""
        return self.last_logits(ids, mask, 1, cache)[:, -1]

    def last_logits(
        self,
        ids: Int[Tensor, "row new"],
        mask: Int[Tensor, "row position"],
        n_positions: int,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "row last vocab"]:
        """Logits of the last `n_positions` positions."""
        self._notify(ids)
        arguments: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "use_cache": cache is not None}
        if cache is not None:
            arguments[self._cache_name] = cache
            if _is_recurrent(cache):
                # Mamba multiplies the new positions by the mask, so that it must be as long as they are.
                arguments["attention_mask"] = mask[:, -ids.shape[1] :]
        if self.takes_positions:
            # Padding takes no position: each row counts as it would without padding.
            # Contiguous: some families (Kosmos-2.5) view them in another shape.
            arguments["position_ids"] = (mask.cumsum(dim=1) - 1).clamp_min(0)[:, -ids.shape[1] :].contiguous()
        if self._takes_logits_to_keep:
            arguments["logits_to_keep"] = n_positions
        logits: Tensor = self._model(**arguments).logits
        return logits[:, -n_positions:]

    def decode_step(
        self,
        ids: Int[Tensor, "row 1"],
        position_ids: Int[Tensor, "row 1"],
        mask: Float[Tensor, "row 1 1 position"],
        cache: KVCache,
    ) -> Float[Tensor, "row vocab"]:
        """Logits of one new position a row.

        `mask` is added to the attention scores: transformers uses a mask of four dimensions unchanged, and computes no
        other.
        """
        self._notify(ids)
        arguments: dict[str, Any] = {"input_ids": ids, "position_ids": position_ids, "attention_mask": mask}
        arguments |= {self._cache_name: cache, "use_cache": True}
        if self._takes_logits_to_keep:
            arguments["logits_to_keep"] = 1
        logits: Tensor = self._model(**arguments).logits
        return logits[:, -1]

    def _notify(self, ids: Tensor) -> None:
        for observer in self._observers:
            observer(ids)


def logit_tolerance(dtype: torch.dtype) -> float:
    """The largest difference between two computations of the same logits, relative to the largest logit.

    Other batch shapes and kernels round differently, by some units in the last place (6e-8 in fp32, 4e-3 in bfloat16)
    that add up over the layers: to 0.06 in a model of 32 layers with random weights. The logits of a wrong computation
    differ by about their own size.
    """
    return 1e-4 if dtype == torch.float32 else 0.1


def _is_recurrent(cache: KVCache) -> bool:
    """Whether all layers keep a state, and none the keys of its positions."""
    return bool(cache.layers) and all(type(layer) is LinearAttentionLayer for layer in cache.layers)


def _contiguous(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """A contiguous input: on a slice of positions, a CPU's matrix product copies the vocabulary's weights once a
    row."""
    return (args[0].contiguous(), *args[1:])
