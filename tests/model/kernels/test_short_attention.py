"""Attention by two matrix products equals torch's, and so do its gradients."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.testing import assert_close

from heretic.model.kernels import decode_attention
from heretic.model.kernels.decode_attention import use_decode_attention
from heretic.model.kernels.short_attention import LONGEST_ALONE, MOST_SCORES, is_short, short_attention
from tests.support.families import tiny

ROWS, HEADS, NEW, KEYS = 3, 4, 7, 10


def mask_of(kind: str) -> Tensor | None:
    """Causal, with padding in front of the first row: its first two positions see nothing."""
    allowed = torch.ones(ROWS, 1, NEW, KEYS, dtype=torch.bool).tril(KEYS - NEW)
    allowed[0, :, :, :5] = False
    return allowed if kind == "boolean" else torch.zeros(allowed.shape).masked_fill(~allowed, -1e30)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("kind", ["none", "boolean", "additive"])
def test_it_equals_the_attention_of_torch(groups: int, kind: str) -> None:
    torch.manual_seed(0)
    keys = NEW if kind == "none" else KEYS
    mask = None if kind == "none" else mask_of(kind)
    tensors = [torch.randn(ROWS, heads, n, 8) for heads, n in ((HEADS, NEW), (groups, keys), (groups, keys))]
    query, key, value = (each.requires_grad_() for each in tensors)
    found = short_attention(query, key, value, mask, 0.3)
    spread = [each.repeat_interleave(HEADS // groups, 1) for each in (key, value)]
    expected = scaled_dot_product_attention(query, *spread, mask, is_causal=mask is None, scale=0.3).transpose(1, 2)
    # Positions that see nothing are padding: torch gives them other values.
    seen = torch.ones(ROWS, NEW, dtype=torch.bool)
    seen[0, :2] = mask is None
    assert_close(found[seen], expected[seen])
    weights = torch.randn(found[seen].shape)
    mine, theirs = (
        torch.autograd.grad((each[seen] * weights).sum(), [query, key, value]) for each in (found, expected)
    )
    assert_close(mine, theirs)


def test_what_sees_nothing_is_finite() -> None:
    query, key = torch.randn(ROWS, HEADS, NEW, 8), torch.randn(ROWS, HEADS, KEYS, 8)
    for kind in ("boolean", "additive"):
        assert short_attention(query.bfloat16(), key.bfloat16(), key.bfloat16(), mask_of(kind)).isfinite().all()


def test_it_takes_short_sequences_in_bfloat16_with_a_mask_for_all_heads() -> None:
    query, key = torch.randn(1, 2, 5, 8).bfloat16(), torch.randn(1, 2, 9, 8).bfloat16()
    mask = torch.ones(1, 1, 5, 9, dtype=torch.bool)
    assert is_short(query, key, mask, True)
    assert is_short(query, key[:, :, :5], None, True)
    for other in (
        (query.float(), key, mask, True),
        (query[:, :, :1], key, mask, True),
        (query, key, mask.expand(1, 2, 5, 9), True),
        (query, key, None, True),
        (query, key[:, :, :5], None, False),
        (query.expand(MOST_SCORES, 2, 5, 8), key, mask, True),
    ):
        assert not is_short(*other)
    long = torch.randn(1, 1, LONGEST_ALONE + 1, 8).bfloat16()
    assert not is_short(long, long, None, True)
    assert is_short(long.requires_grad_(), long, None, True)


@torch.no_grad()
def test_a_model_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefill and learning; the logits differ by rounding only."""
    model, calls = tiny("llama").to(torch.bfloat16), []
    ids, mask = torch.arange(12).view(2, 6) + 3, torch.ones(2, 6, dtype=torch.long)
    mask[0, :2] = 0
    plain = model(ids, attention_mask=mask).logits
    assert use_decode_attention(model)

    def counted(*arguments: Any) -> Tensor:
        calls.append(1)
        return short_attention(*arguments)

    monkeypatch.setattr(decode_attention, "short_attention", counted)
    found = model(ids, attention_mask=mask).logits
    assert len(calls) == model.config.num_hidden_layers
    seen = mask.bool()
    assert_close(found[seen], plain[seen], atol=0.05 * float(plain.abs().max()), rtol=0)
