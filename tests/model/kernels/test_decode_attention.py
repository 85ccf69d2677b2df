"""Attention over transposed keys equals torch's."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.testing import assert_close

from heretic.model.kernels.decode_attention import decode_attention, stored_transposed, use_decode_attention
from tests.support.families import tiny


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("kind", ["none", "boolean", "additive"])
def test_it_equals_the_attention_of_torch(groups: int, kind: str) -> None:
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


@pytest.mark.parametrize("kind", ["none", "boolean", "additive"])
@pytest.mark.parametrize("room", [0, 1, 5])
def test_free_positions_of_the_buffer_change_nothing(room: int, kind: str) -> None:
    torch.manual_seed(0)
    query = torch.randn(3, 4, 1, 8)
    # Masked positions must have no effect, whatever they hold.
    keys, values = torch.randn(3, 2, 8, 11 + room), torch.randn(3, 2, 11 + room, 8)
    key, value = keys[..., :11].mT, values[:, :, :11]
    allowed = torch.rand(3, 1, 1, 11) > 0.3
    allowed[..., -1] = True
    masks = {"none": None, "boolean": allowed, "additive": torch.zeros(3, 1, 1, 11).masked_fill(~allowed, -1e30)}
    alone = decode_attention(query, key.mT.contiguous().mT, value.contiguous(), masks[kind])
    assert_close(decode_attention(query, key, value, masks[kind]), alone)


def test_it_is_used_in_bfloat16_only() -> None:
    assert not use_decode_attention(tiny("llama"))
    model = tiny("llama").to(torch.bfloat16)
    assert use_decode_attention(model)
    assert use_decode_attention(model), "a second engine of the same model"
