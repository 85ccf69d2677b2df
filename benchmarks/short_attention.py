"""Attention of short sequences on a CPU, ours next to torch's: `python benchmarks/short_attention.py`.

For some batches of SmolLM2's heads in bfloat16, with 24 cached positions before the new ones: processor time of a
forward and backward pass, and of a forward pass alone, each as torch's divided by ours.
"""

import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from heretic.model.kernels.short_attention import short_attention

HEADS, GROUPS, HEAD_DIM, CACHED = 9, 3, 64, 24
SHAPES = ((6, 80), (8, 40), (16, 60), (64, 30), (1, 512))
REPEATS = 20


def main() -> None:
    print("rows, new positions: forward and backward, forward alone (torch's time divided by ours)")
    for rows, positions in SHAPES:
        query = torch.randn(rows, HEADS, positions, HEAD_DIM, dtype=torch.bfloat16)
        key, value = torch.randn(2, rows, GROUPS, CACHED + positions, HEAD_DIM, dtype=torch.bfloat16)
        mask = torch.ones(rows, 1, positions, CACHED + positions, dtype=torch.bool).tril(CACHED)
        tensors = [each.requires_grad_() for each in (query, key, value)]
        ours, theirs = (partial(own, *tensors, mask) for own in (short_attention, torch_attention))
        both = seconds(partial(backward, theirs)) / seconds(partial(backward, ours))
        with torch.no_grad():
            alone = seconds(theirs) / seconds(ours)
        print(f"{rows:4d} {positions:4d}: {both:5.1f} {alone:5.1f}")


def torch_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """As transformers calls it: with keys and values copied for each query head of a group."""
    spread = [
        each[:, :, None].expand(-1, -1, HEADS // GROUPS, -1, -1).reshape(len(query), HEADS, -1, HEAD_DIM)
        for each in (key, value)
    ]
    return scaled_dot_product_attention(query, *spread, attn_mask=mask).transpose(1, 2)


def backward(attention: Callable[[], Tensor]) -> None:
    attention().sum().backward()


def seconds(work: Callable[[], object]) -> float:
    """Processor time of one call."""
    work()
    begun = time.process_time()
    for _ in range(REPEATS):
        work()
    return (time.process_time() - begun) / REPEATS


if __name__ == "__main__":
    main()
