"""Attention of short sequences in bfloat16 on a CPU: two matrix products, and the softmax between them.

There torch's kernel works on small blocks, one row and head after the other, and its backward pass most of all. Here
all rows share each product, and so do the query heads of a group.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

MOST_SCORES = 1 << 22
"""Most scores that one call computes; a graph keeps their probabilities, at most 8 MiB a layer."""

LONGEST, LONGEST_ALONE = 256, 128
"""New positions at most: with a backward pass to come, and without, where torch's kernel is faster beyond."""


def is_short(query: Tensor, key: Tensor, mask: Tensor | None, is_causal: bool) -> bool:
    """Whether `short_attention` takes these: more than one new position, few scores, and a mask for all heads."""
    (rows, heads, positions, _), keys = query.shape, key.shape[-2]
    longest = LONGEST if query.requires_grad and torch.is_grad_enabled() else LONGEST_ALONE
    if not 1 < positions <= longest or rows * heads * positions * keys > MOST_SCORES:
        return False
    if query.dtype != torch.bfloat16:
        return False
    # Without a mask, torch aligns the causal one with the first key.
    return is_causal and positions == keys if mask is None else mask.dim() == 4 and mask.shape[1] == 1


def short_attention(
    query: Float[Tensor, "row head position head_dim"],
    key: Float[Tensor, "row group key head_dim"],
    value: Float[Tensor, "row group key feature"],
    mask: Shaped[Tensor, "#row 1 position key"] | None,
    scaling: float | None = None,
) -> Float[Tensor, "row position head feature"]:
    """Attention output, with a boolean, an additive or (None) the causal mask.

    Scores and probabilities are rounded to the model's dtype; the softmax computes in fp32.
    """
    rows, heads, positions, head_dim = query.shape
    groups, keys = key.shape[1:3]
    scale = head_dim**-0.5 if scaling is None else scaling
    grouped = rows * groups, heads // groups * positions
    added = (
        _as_added(mask, query, keys).expand(rows, groups, positions, keys).reshape(rows * groups, 1, positions, keys)
    )
    added = added.expand(-1, heads // groups, -1, -1).reshape(*grouped, keys)
    scores = torch.baddbmm(
        added, query.reshape(*grouped, head_dim), key.reshape(grouped[0], keys, head_dim).mT, alpha=scale
    )
    written = scores.softmax(dim=-1) @ value.reshape(grouped[0], keys, -1)
    return written.view(rows, heads, positions, -1).transpose(1, 2)


def _as_added(mask: Tensor | None, query: Tensor, keys: int) -> Tensor:
    """The mask as numbers to add to the scores. Where a row may see nothing, all its positions count alike: such a row
    is padding, and must not become infinite or NaN."""
    if mask is None:
        mask = torch.ones(query.shape[-2], keys, dtype=torch.bool, device=query.device).tril()[None, None]
    lowest = torch.finfo(query.dtype).min / 2
    if mask.dtype == torch.bool:
        return torch.zeros((), dtype=query.dtype, device=query.device).where(mask, lowest)
    return mask.to(query.dtype).clamp_min(lowest)
