"""Products with packed weights equal those with the weights."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from heretic.model.kernels.packed_linear import can_be_packed, pack_weights, unpack_weights
from tests.support.families import tiny


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_products_differ_by_rounding(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = tiny("qwen2").to(dtype)  # has biases
    ids = torch.randint(0, 96, (5, 7))
    with torch.inference_mode():
        plain = model(ids).logits.float()
        # A CPU without AVX-512 has no packed products in bfloat16: there the model stays as it is, and works.
        packs = can_be_packed(dtype)
        assert pack_weights(model) == packs
        assert ("forward" in model.model.layers[0].mlp.down_proj.__dict__) == packs
        assert packs or dtype != torch.float32
        packed = model(ids).logits.float()
        # A few roundings (2^-8 in bfloat16, 2^-24 in float32) of the largest logit.
        assert_close(packed, plain, rtol=0, atol=float(plain.abs().max()) * 8 * torch.finfo(dtype).eps / 2)
        unpack_weights(model)
        assert torch.equal(model(ids).logits.float(), plain)


def test_other_dtypes_are_not_packed() -> None:
    model = tiny("llama").to(torch.float16)
    assert not pack_weights(model)
    assert "forward" not in model.model.layers[0].mlp.down_proj.__dict__


def test_a_cpu_without_the_product_uses_plain_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Tensor:
        raise RuntimeError("needs another CPU")

    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_linear_weight", refuse)
    can_be_packed.cache_clear()
    try:
        model = tiny("llama").to(torch.bfloat16)
        assert not pack_weights(model)
        assert "forward" not in model.model.layers[0].mlp.down_proj.__dict__
    finally:
        can_be_packed.cache_clear()


def test_a_hook_sees_the_packed_product() -> None:
    model = tiny("llama")
    assert pack_weights(model)
    seen = []
    model.model.layers[1].mlp.down_proj.register_forward_hook(lambda _, __, output: seen.append(output))
    with torch.inference_mode():
        model(torch.tensor([[1, 2, 3]]))
    assert [tuple(each.shape) for each in seen] == [(1, 3, 32)]
