"""Triton kernels for the parts of a decode step that the library computes in several operations, on a GPU: the rotation
of queries and keys, and the gated activation of a feed-forward network."""

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from .gpu_kernels import Activation

GATE_BLOCK = 1024
"""Numbers of one program."""


def rotated(
    query: Float[Tensor, "row head 1 head_dim"],
    key: Float[Tensor, "row group 1 head_dim"],
    cos: Float[Tensor, "#row 1 head_dim"],
    sin: Float[Tensor, "#row 1 head_dim"],
) -> tuple[Float[Tensor, "row head 1 head_dim"], Float[Tensor, "row group 1 head_dim"]]:
    """Queries and keys of one position a row with rotary position embeddings (Su and others 2021, arXiv 2104.09864): x
    cos + (-x₂, x₁) sin for the halves x₁ and x₂ of x. Computed in fp32, returned in the dtype of the inputs."""
    rows, heads, _, head_dim = query.shape
    groups = key.shape[1]
    found = query.new_empty(query.shape), key.new_empty(key.shape)
    _rotate[(rows,)](
        query,
        key,
        cos,
        sin,
        *found,
        *query.stride()[:2],
        *key.stride()[:2],
        0 if len(cos) == 1 else cos.stride(0),
        0 if len(sin) == 1 else sin.stride(0),
        HEADS=heads,
        GROUPS=groups,
        HALF=head_dim // 2,
        BLOCK_HEADS=triton.next_power_of_2(heads),
        BLOCK_GROUPS=triton.next_power_of_2(groups),
        BLOCK_HALF=triton.next_power_of_2(head_dim // 2),
        num_warps=4,
    )
    return found


def gated(
    gate: Float[Tensor, "*row feature"], up: Float[Tensor, "*row feature"], activation: Activation
) -> Float[Tensor, "*row feature"]:
    """activation(gate) times up, both contiguous. Computed in fp32, returned in the dtype of the inputs."""
    product = torch.empty_like(up)
    count = up.numel()
    _gate[(triton.cdiv(count, GATE_BLOCK),)](gate, up, product, count, SILU=activation == "silu", BLOCK=GATE_BLOCK)
    return product


@triton.jit
def _rotate(  # type: ignore[no-untyped-def]
    query,
    key,
    cos,
    sin,
    rotated_query,
    rotated_key,
    query_row,
    query_head,
    key_row,
    key_head,
    cos_row,
    sin_row,
    HEADS: tl.constexpr,
    GROUPS: tl.constexpr,
    HALF: tl.constexpr,
    BLOCK_HEADS: tl.constexpr,
    BLOCK_GROUPS: tl.constexpr,
    BLOCK_HALF: tl.constexpr,
):
    """One program for each row."""
    row = tl.program_id(0).to(tl.int64)
    own_cos, own_sin = cos + row * cos_row, sin + row * sin_row
    targets = rotated_query + row * HEADS * 2 * HALF
    _rotate_heads(query + row * query_row, query_head, targets, own_cos, own_sin, HEADS, HALF, BLOCK_HEADS, BLOCK_HALF)
    targets = rotated_key + row * GROUPS * 2 * HALF
    _rotate_heads(key + row * key_row, key_head, targets, own_cos, own_sin, GROUPS, HALF, BLOCK_GROUPS, BLOCK_HALF)


@triton.jit
def _rotate_heads(  # type: ignore[no-untyped-def]
    source,
    head_stride,
    target,
    cos,
    sin,
    HEADS: tl.constexpr,
    HALF: tl.constexpr,
    BLOCK_HEADS: tl.constexpr,
    BLOCK_HALF: tl.constexpr,
):
    head, feature = tl.arange(0, BLOCK_HEADS)[:, None], tl.arange(0, BLOCK_HALF)
    in_half = feature < HALF
    inside = (head < HEADS) & in_half[None, :]
    places = source + head * head_stride + feature[None, :]
    first = tl.load(places, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(places + HALF, mask=inside, other=0.0).to(tl.float32)
    first_cos = tl.load(cos + feature, mask=in_half, other=0.0).to(tl.float32)[None, :]
    second_cos = tl.load(cos + HALF + feature, mask=in_half, other=0.0).to(tl.float32)[None, :]
    first_sin = tl.load(sin + feature, mask=in_half, other=0.0).to(tl.float32)[None, :]
    second_sin = tl.load(sin + HALF + feature, mask=in_half, other=0.0).to(tl.float32)[None, :]
    targets = target + head * 2 * HALF + feature[None, :]
    kind = target.dtype.element_ty
    # Rounded where the library's operations round.
    along = (first * first_cos).to(kind).to(tl.float32), (second * second_cos).to(kind).to(tl.float32)
    across = (second * first_sin).to(kind).to(tl.float32), (first * second_sin).to(kind).to(tl.float32)
    tl.store(targets, (along[0] - across[0]).to(kind), mask=inside)
    tl.store(targets + HALF, (along[1] + across[1]).to(kind), mask=inside)


@triton.jit
def _gate(gate, up, product, count, SILU: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < count
    x = tl.load(gate + place, mask=inside, other=0.0).to(tl.float32)
    # (1 + tanh(u)) / 2 is the sigmoid of 2u.
    u = x if SILU else 1.5957691216057308 * (x + 0.044715 * x * x * x)
    kind = product.dtype.element_ty
    # Rounded where the library's operations round.
    active = (x * tl.sigmoid(u)).to(kind).to(tl.float32)
    result = active * tl.load(up + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(product + place, result.to(kind), mask=inside)
