"""Keys and values of the prompts' common prefix, computed once a candidate and copied to each of its rows."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer


def empty_cache(model: Any) -> DynamicCache:
    return DynamicCache(config=model.config)


def keeps_positions(model: Any) -> bool:
    """Whether every layer caches keys and values of all positions, and nothing else."""
    return all(type(each) is DynamicLayer for each in empty_cache(model).layers)


def cache_for_rows(model: Any, whole: DynamicCache, candidates: Tensor) -> DynamicCache:
    """A cache in which each row has the prefix of its own candidate; `whole` has one row a candidate.

    Layers that did not run hold zeros for each position of the prefix: the model takes the number of cached positions
    from its first layer. A decoder layer may have several in the cache (LongCat-Flash: two).
    """
    cache = empty_cache(model)
    layers: list[Any] = list(whole.layers)
    positions = layers[-1].keys.shape[-2]
    for number, layer in enumerate(layers):
        if layer.keys is None:
            nothing = torch.zeros(len(candidates), 1, positions, 1, device=layers[-1].keys.device)
            cache.update(nothing, nothing, number)
        else:
            cache.update(_for_rows(layer.keys, candidates), _for_rows(layer.values, candidates), number)
    return cache


def _for_rows(states: Tensor, candidates: Tensor) -> Tensor:
    """The states of each row's candidate, (row, ...), from those of all candidates."""
    if len(states) == 1:
        # The gradient of an expansion is a plain sum; that of an index is slow on a GPU.
        return states.expand(len(candidates), *states.shape[1:])
    return states.index_select(0, candidates.to(states.device))


def mask_behind(kept: Sequence[Tensor], shared: int, longest: int, like: Tensor) -> Tensor:
    """The mask, (row, position), of what follows the prefix."""
    mask = torch.zeros(len(kept), longest, dtype=like.dtype, device=like.device)
    for number, state in enumerate(kept):
        mask[number, longest - len(state) + shared :] = 1
    return mask
