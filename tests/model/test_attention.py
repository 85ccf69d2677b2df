"""Attention over transposed keys is the library's."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.testing import assert_close

from families import tiny
from heretic.model.attention import decode_attention, stored_transposed, use_decode_attention


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("kind", ["none", "boolean", "additive"])
def test_it_is_that_of_the_library(groups: int, kind: str) -> None:
    torch.manual_seed(0)
    query = torch.randn(3, 4, 1, 8)
    key, value = torch.randn(3, groups, 8, 11).mT, torch.randn(3, groups, 11, 8)
    allowed = torch.rand(3, 1, 1, 11) > 0.3
    allowed[..., -1] = True
    masks = {"none": None, "boolean": allowed, "additive": torch.zeros(3, 1, 1, 11).masked_fill(~allowed, -1e30)}
    expected = scaled_dot_product_attention(
        query, key.repeat_interleave(4 // groups, 1), value.repeat_interleave(4 // groups, 1), masks[kind], scale=0.3
    )
    assert stored_transposed(key)
    assert_close(decode_attention(query, key, value, masks[kind], 0.3), expected.transpose(1, 2))


def test_it_is_used_in_bfloat16_alone() -> None:
    assert not use_decode_attention(tiny("llama"))
    model = tiny("llama").to(torch.bfloat16)
    assert use_decode_attention(model)
    assert use_decode_attention(model), "a second engine of the same model"
