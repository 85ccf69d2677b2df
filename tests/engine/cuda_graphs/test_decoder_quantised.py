"""Weights of 4 bits decode by captured steps too, several candidates in the same forwards."""

import pytest
import torch
from torch import nn

from heretic.model.loading.quantization import is_packed
from tests.support.captured_engines import answers, captured, edits_of
from tests.support.engines import engine_for


def pack(model: nn.Module) -> None:
    """Replaces the linear modules of the layers by nf4 ones, as `quantization = bnb_4bit` loads them."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and "layers" in name:
            packed = Linear4bit(module.in_features, module.out_features, False, torch.float32, True, "nf4")
            packed.weight = Params4bit(module.weight.data, False, quant_type="nf4").to("cpu")
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, packed)


def test_four_bits_decode_by_captured_steps() -> None:
    pytest.importorskip("bitsandbytes")
    plain = engine_for("llama", 20)
    pack(plain.loaded.model)
    assert all(is_packed(plain.loaded.model.get_submodule(site.module)) for site in plain.sites)
    fast = captured(plain)
    for seed in range(2):
        edits = edits_of(plain, seed, 3, 2)
        found = answers(fast, edits)
        assert found == answers(plain, edits)
        assert len({response.tokens for row in found for response in row}) > 3
    assert fast.uses_cuda_graphs
