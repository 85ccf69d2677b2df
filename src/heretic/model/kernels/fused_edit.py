"""A Triton kernel that edits the output of a weight in one pass, on a GPU.

The plain path (ablation/edit.py) makes an fp32 copy of the output, and reads and writes it again at each of its steps.
"""

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from ...ablation.edit import SiteEdit

WARP_NUMBERS = 1024
"""Numbers of a row for each group of 32 threads: a row is in registers between the product and the difference."""


def fused_edit(
    edit: SiteEdit,
    candidates: Int[Tensor, " row"],
    output: Float[Tensor, "row position d_model"],
    bias: Float[Tensor, " d_model"] | None = None,
) -> Float[Tensor, "row position d_model"]:
    """`output` with the edit of each row's candidate, scale ∘ (y - left (rightᵀ y)) for y without `bias`.

    `edit` has a leading dimension of candidates. Computed in fp32, returned in the dtype of `output`.
    """
    rows, positions, d_model = output.shape
    written = output.reshape(rows * positions, d_model)
    edited = torch.empty_like(written)
    left, right, scale = edit.left, edit.right, edit.scale
    # A stride that is never used would make another program of the same kernel.
    strides = [factor.stride() if edit.rank > 1 else (*factor.stride()[:2], 0) for factor in (left, right)]
    block = triton.next_power_of_2(d_model)
    _edit[(rows * positions,)](
        written,
        edited,
        candidates,
        left,
        right,
        left if scale is None else scale,
        left if bias is None else bias,
        positions,
        written.stride(0),
        *strides[0],
        *strides[1],
        *((0, 0) if scale is None else scale.stride()),
        WIDTH=d_model,
        RANK=edit.rank,
        BLOCK=block,
        HAS_SCALE=scale is not None,
        HAS_BIAS=bias is not None,
        num_warps=min(16, max(1, block // WARP_NUMBERS)),
    )
    return edited.view(output.shape)


# 1 or a multiple of 16 would be compiled for by itself.
@triton.jit(do_not_specialize=["positions"])
def _edit(  # type: ignore[no-untyped-def]
    written,
    edited,
    candidates,
    left,
    right,
    scale,
    bias,
    positions,
    row_stride,
    left_candidate,
    left_feature,
    left_rank,
    right_candidate,
    right_feature,
    right_rank,
    scale_candidate,
    scale_feature,
    WIDTH: tl.constexpr,
    RANK: tl.constexpr,
    BLOCK: tl.constexpr,
    HAS_SCALE: tl.constexpr,
    HAS_BIAS: tl.constexpr,
):
    """One program for each row and position."""
    number = tl.program_id(0).to(tl.int64)
    candidate = tl.load(candidates + number // positions)
    feature = tl.arange(0, BLOCK)
    inside = feature < WIDTH
    y = tl.load(written + number * row_stride + feature, mask=inside, other=0.0).to(tl.float32)
    if HAS_BIAS:
        added = tl.load(bias + feature, mask=inside, other=0.0).to(tl.float32)
        y -= added
    result = y
    for rank in range(RANK):
        along = right + candidate * right_candidate + feature * right_feature + rank * right_rank
        length = tl.sum(y * tl.load(along, mask=inside, other=0.0), axis=0)
        removed = left + candidate * left_candidate + feature * left_feature + rank * left_rank
        result -= length * tl.load(removed, mask=inside, other=0.0)
    if HAS_SCALE:
        factor = scale + candidate * scale_candidate + feature * scale_feature
        result *= tl.load(factor, mask=inside, other=0.0)
    if HAS_BIAS:
        result += added
    tl.store(edited + number * WIDTH + feature, result.to(edited.dtype.element_ty), mask=inside)
