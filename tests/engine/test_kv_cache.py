"""The measured memory of a cache is that of its tensors, for every kind of cache."""

import pytest
import torch
from transformers import DynamicCache, Gemma4TextConfig, MambaConfig

from heretic.engine.forward import Forward
from heretic.engine.kv_cache import PreallocatedLayer, cache_bytes, make_cache
from tests.support.families import tiny


def filled(family: str, positions: int) -> int:
    model = tiny(family)
    cache = make_cache(model.config, positions)
    with torch.inference_mode():
        tokens = torch.zeros(1, positions, dtype=torch.long)
        Forward(model)(tokens, torch.ones_like(tokens), cache)
    return cache_bytes(cache)


def test_keys_and_values_are_counted_once() -> None:
    """3 layers, 2 groups of 8 features, fp32; buffers have 32 free positions."""
    assert filled("llama", 10) == 3 * 2 * 2 * 8 * (10 + 32) * 4
    assert filled("llama", 50) == 3 * 2 * 2 * 8 * (50 + 32) * 4


def test_layers_with_heads_of_different_sizes() -> None:
    cache = make_cache(Gemma4TextConfig(num_hidden_layers=2, layer_types=["full_attention"] * 2), 4)
    cache.layers = [PreallocatedLayer(), PreallocatedLayer()]
    for layer, size in zip(cache.layers, (8, 16), strict=True):
        layer.update(torch.zeros(1, 1, 4, size), torch.zeros(1, 1, 4, size))
    assert cache_bytes(cache) == 2 * (8 + 16) * (4 + 32) * 4


def test_a_state_without_heads_is_counted_too() -> None:
    cache = make_cache(MambaConfig(num_hidden_layers=1, hidden_size=8), 4)
    before = cache_bytes(cache)
    cache.layers[0].conv_states = torch.zeros(1, 16, 4)
    assert cache_bytes(cache) - before == 16 * 4 * 4


@pytest.mark.parametrize("count", [0, 3])
def test_an_empty_cache_holds_nothing(count: int) -> None:
    cache = DynamicCache()
    cache.layers = [PreallocatedLayer() for _ in range(count)]
    assert cache_bytes(cache) == 0
