"""Attention of one new position over the positions that a mask leaves, on a GPU: a Triton kernel.

A recorded step attends to buffers that are as long as the longest response may become. torch's kernels read all of
them; this one reads the mask first, and then the keys and values from the first position that is left to the last one.
The query heads of a group share one read.
"""

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

BLOCK = 16
"""Positions read at once."""

SCANNED = 128
"""Positions of the mask read at once."""

WARPS, STAGES = 1, 2
"""Groups of 32 threads a program, and blocks that are loaded ahead."""

MIN_HEADS = 16
"""Rows of the smallest matrix product of a GPU's tensor cores; missing query heads are zeros."""


def masked_attention(
    query: Float[Tensor, "row head 1 head_dim"],
    key: Float[Tensor, "row group position head_dim"],
    value: Float[Tensor, "row group position feature"],
    mask: Float[Tensor, "row 1 1 position"],
    scaling: float | None = None,
) -> Float[Tensor, "row 1 head feature"]:
    """Attention output, softmax in fp32; `mask` is added to the scores, and its least value excludes a position."""
    rows, heads, _, head_dim = query.shape
    groups, positions, features = value.shape[1:]
    attended = query.new_empty(rows, 1, heads, features)
    _attend[(rows, groups)](
        query,
        key,
        value,
        mask,
        attended,
        head_dim**-0.5 if scaling is None else scaling,
        positions,
        query.stride(0),
        query.stride(1),
        *key.stride()[:3],
        *value.stride()[:3],
        mask.stride(0),
        attended.stride(0),
        attended.stride(2),
        # Half of the least value: a mask that another one was added to still excludes.
        EXCLUDED=torch.finfo(mask.dtype).min / 2,
        HEADS=heads // groups,
        HEAD_DIM=head_dim,
        FEATURES=features,
        BLOCK_HEADS=max(MIN_HEADS, triton.next_power_of_2(heads // groups)),
        BLOCK_DIM=max(MIN_HEADS, triton.next_power_of_2(head_dim)),
        BLOCK_FEATURES=max(MIN_HEADS, triton.next_power_of_2(features)),
        BLOCK=BLOCK,
        SCANNED=SCANNED,
        num_warps=WARPS,
        num_stages=STAGES,
    )
    return attended


@triton.jit
def _attend(  # type: ignore[no-untyped-def]
    query,
    key,
    value,
    mask,
    attended,
    scaling,
    positions,
    query_row,
    query_head,
    key_row,
    key_group,
    key_position,
    value_row,
    value_group,
    value_position,
    mask_row,
    attended_row,
    attended_head,
    EXCLUDED: tl.constexpr,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    FEATURES: tl.constexpr,
    BLOCK_HEADS: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    BLOCK_FEATURES: tl.constexpr,
    BLOCK: tl.constexpr,
    SCANNED: tl.constexpr,
):
    """One program for each row and group of heads; the softmax is summed block by block (Milakov and Gimelshein 2018,
    arXiv 1805.02867)."""
    row, group = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    head, dim, feature = tl.arange(0, BLOCK_HEADS), tl.arange(0, BLOCK_DIM), tl.arange(0, BLOCK_FEATURES)
    own = query + row * query_row + (group * HEADS + head)[:, None] * query_head + dim[None, :]
    q = tl.load(own, mask=(head < HEADS)[:, None] & (dim < HEAD_DIM)[None, :], other=0.0)
    first, end = positions, 0
    for start in range(0, positions, SCANNED):
        position = start + tl.arange(0, SCANNED)
        left = tl.load(mask + row * mask_row + position, mask=position < positions, other=-float("inf")) > EXCLUDED
        first = tl.minimum(first, tl.min(tl.where(left, position, positions), axis=0))
        end = tl.maximum(end, tl.max(tl.where(left, position + 1, 0), axis=0))
    largest = tl.full([BLOCK_HEADS], -float("inf"), tl.float32)
    total = tl.zeros([BLOCK_HEADS], tl.float32)
    summed = tl.zeros([BLOCK_HEADS, BLOCK_FEATURES], tl.float32)
    for start in range(first, end, BLOCK):
        position = start + tl.arange(0, BLOCK)
        inside = position < end
        added = tl.load(mask + row * mask_row + position, mask=inside, other=-float("inf")).to(tl.float32)
        keys = key + row * key_row + group * key_group + position[:, None] * key_position + dim[None, :]
        k = tl.load(keys, mask=inside[:, None] & (dim < HEAD_DIM)[None, :], other=0.0)
        values = value + row * value_row + group * value_group + position[:, None] * value_position
        v = tl.load(values + feature[None, :], mask=inside[:, None] & (feature < FEATURES)[None, :], other=0.0)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scaling + added[None, :]
        larger = tl.maximum(largest, tl.max(scores, axis=1))
        weights = tl.exp(scores - larger[:, None])
        kept = tl.exp(largest - larger)
        total = total * kept + tl.sum(weights, axis=1)
        summed = summed * kept[:, None] + tl.dot(weights.to(v.dtype), v, input_precision="ieee")
        largest = larger
    result = summed / tl.where(total > 0, total, 1.0)[:, None]
    places = attended + row * attended_row + (group * HEADS + head)[:, None] * attended_head + feature[None, :]
    tl.store(places, result.to(attended.dtype.element_ty), mask=(head < HEADS)[:, None] & (feature < FEATURES)[None, :])
