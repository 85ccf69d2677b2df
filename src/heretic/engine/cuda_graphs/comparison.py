"""Logits of captured steps next to those of plain forwards of the same rows."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..forward import Forward
from .static_batch import CHECK_STEPS, CHECKED_ROWS, StaticBatch


def rows_to_compare(batch: StaticBatch, rows: Sequence[int], size: int) -> list[int]:
    """Some of `rows` below `size`: of every candidate, from both ends."""
    inside = [row for row in rows if row < size]
    of_candidate: dict[int, list[int]] = {}
    for row, candidate in zip(inside, batch.candidates[inside].tolist(), strict=True):
        of_candidate.setdefault(candidate, []).append(row)
    ends = [[own[0], own[-1], *own[1:-1]] for own in of_candidate.values()]
    ordered = [own[turn] for turn in range(max(map(len, ends))) for own in ends if turn < len(own)]
    return list(dict.fromkeys(ordered))[:CHECKED_ROWS]


def plain_steps(batch: StaticBatch, forward: Forward, rows: Int[Tensor, " row"]) -> tuple[list[Tensor], list[Tensor]]:
    """Logits of plain forwards, (rows, vocab) each, and the tokens that each was given."""
    cache, mask = batch.rows_of(rows)
    logits, tokens = list[Tensor](), [batch.ids[rows, 0]]
    for _ in range(CHECK_STEPS):
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        logits.append(forward(tokens[-1][:, None], mask, cache))
        tokens.append(logits[-1].max(dim=-1).indices)
    return logits, tokens


def largest_difference(found: Float[Tensor, "row vocab"], expected: Float[Tensor, "row vocab"]) -> float:
    """Relative to the largest logit of `expected`; rows that are not finite there are ignored; inf where one is NaN."""
    finite = expected.isfinite().all(dim=-1, keepdim=True)
    gap = (found.float() - expected.float()).where(finite, 0.0).abs().nan_to_num(nan=torch.inf).max()
    return float(gap / expected.where(finite, 0.0).abs().max().clamp_min(1e-12))
