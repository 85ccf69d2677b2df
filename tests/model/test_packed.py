"""Packed weights multiply as the weights do."""

import torch
from torch.testing import assert_close

from families import tiny
from heretic.model.packed import pack_weights, unpack_weights


def test_products_differ_by_rounding_alone() -> None:
    torch.manual_seed(0)
    model = tiny("qwen2").to(torch.bfloat16)  # has biases
    ids = torch.randint(0, 96, (5, 7))
    with torch.inference_mode():
        plain = model(ids).logits.float()
        assert pack_weights(model)
        assert "forward" in model.model.layers[0].mlp.down_proj.__dict__
        packed = model(ids).logits.float()
        # bfloat16 has 8 bits: a few roundings of the largest logit.
        assert_close(packed, plain, rtol=0, atol=float(plain.abs().max()) * 2**-5)
        unpack_weights(model)
        assert torch.equal(model(ids).logits.float(), plain)


def test_other_dtypes_stay_as_they_are() -> None:
    model = tiny("llama")
    assert not pack_weights(model)
    assert "forward" not in model.model.layers[0].mlp.down_proj.__dict__


def test_a_hook_sees_the_packed_product() -> None:
    model = tiny("llama").to(torch.bfloat16)
    pack_weights(model)
    seen = []
    model.model.layers[1].mlp.down_proj.register_forward_hook(lambda _, __, output: seen.append(output))
    with torch.inference_mode():
        model(torch.tensor([[1, 2, 3]]))
    assert [tuple(each.shape) for each in seen] == [(1, 3, 32)]
