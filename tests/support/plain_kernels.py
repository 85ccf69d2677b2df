"""What the GPU's kernels compute, by torch's operations."""

import torch
from torch import Tensor
from torch.nn import functional

from heretic.ablation.edit import SiteEdit, edit_rows
from heretic.model.kernels.gpu_kernels import Activation


def edited(edit: SiteEdit, candidates: Tensor, output: Tensor, bias: Tensor | None) -> Tensor:
    """What the kernel computes, in three dimensions."""
    positions = output.shape[1]
    added = 0.0 if bias is None else bias.float()
    written = (output.float() - added).flatten(0, 1)
    return (edit_rows(edit, candidates.repeat_interleave(positions), written) + added).to(output.dtype).view_as(output)


def attended(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float | None) -> Tensor:
    share = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(share, dim=1), value.repeat_interleave(share, dim=1)
    return torch.nn.functional.scaled_dot_product_attention(query, key, value, mask, scale=scaling).transpose(1, 2)


def rotated(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Each operation rounds to the dtype of the inputs, as the library's do."""

    def turned(x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=-1)
        return x * cos[:, None] + torch.cat([-second, first], -1) * sin[:, None]

    return turned(query), turned(key)


def gated(gate: Tensor, up: Tensor, activation: Activation) -> Tensor:
    """Rounds between the two operations, as the library does."""
    return (functional.silu(gate) if activation == "silu" else functional.gelu(gate, approximate="tanh")) * up
