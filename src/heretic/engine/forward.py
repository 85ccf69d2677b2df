"""One call of a model."""

import inspect
from typing import Any

from torch import Tensor, nn
from transformers.cache_utils import LinearAttentionLayer


class Forward:
    """Calls a model with what its forward takes: positions by the mask, logits of the last positions only."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        taken = inspect.signature(model.forward).parameters
        self.takes_positions = "position_ids" in taken
        self._takes_logits_to_keep = "logits_to_keep" in taken
        # transformers calls it `cache` from 5.24 on; models that bring their own code mostly keep the older name.
        self._cache_name = "cache" if "cache" in taken else "past_key_values"
        self.is_stateful = bool(getattr(model, "_is_stateful", False))
        """Whether it says of itself that it keeps more than keys and values."""
        head = model.get_output_embeddings()  # type: ignore[operator]
        if head is not None:
            head.register_forward_pre_hook(_contiguous)

    def __call__(self, ids: Tensor, mask: Tensor, cache: Any = None) -> Tensor:
        """Logits of the last position, (rows, vocab), for `ids` (rows, new positions) under `mask` (rows, all of them).

        `cache`, where one is given, holds the positions before, and these afterwards.
        """
        return self.last(ids, mask, 1, cache)[:, -1]

    def last(self, ids: Tensor, mask: Tensor, positions: int, cache: Any = None) -> Tensor:
        """Logits of the last `positions` positions, (rows, positions, vocab)."""
        arguments: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "use_cache": cache is not None}
        if cache is not None:
            arguments[self._cache_name] = cache
            if _is_recurrent(cache):
                # Mamba multiplies the new positions by the mask as it is given.
                arguments["attention_mask"] = mask[:, -ids.shape[1] :]
        if self.takes_positions:
            # Padding counts for nothing: positions are those of a row without it.
            places = (mask.cumsum(dim=1) - 1).clamp_min(0)
            arguments["position_ids"] = places[:, -ids.shape[1] :]
        if self._takes_logits_to_keep:
            arguments["logits_to_keep"] = positions
        return self._model(**arguments).logits[:, -positions:]

    def step(self, ids: Tensor, places: Tensor, mask: Tensor, cache: Any) -> Tensor:
        """Logits (rows, vocab) of one new position a row: `ids` and `places` (rows, 1).

        `mask` (rows, 1, 1, positions) is added to the scores as it stands: a model of the library takes one of four
        dimensions for ready, and counts nothing itself.
        """
        arguments: dict[str, Any] = {"input_ids": ids, "position_ids": places, "attention_mask": mask}
        arguments |= {self._cache_name: cache, "use_cache": True}
        if self._takes_logits_to_keep:
            arguments["logits_to_keep"] = 1
        return self._model(**arguments).logits[:, -1]


def _is_recurrent(cache: Any) -> bool:
    """Whether all layers keep a state, and none keys of its positions."""
    return bool(cache.layers) and all(type(layer) is LinearAttentionLayer for layer in cache.layers)


def _contiguous(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """On a slice of positions, a CPU's matrix product copies the whole vocabulary's weights once a row."""
    return (args[0].contiguous(), *args[1:])
