"""References: the words of the specification, step by step."""

import torch
from torch import Tensor


def naive_edit(weight: Tensor, direction: Tensor, strength: float, row_normalization: str) -> Tensor:
    """The edited weight step by step, as the words of the specification have it: the reference for the closed form."""
    if row_normalization == "none":
        return weight - strength * torch.outer(direction, direction @ weight)
    norms = weight.norm(dim=1, keepdim=True)
    rows = torch.nn.functional.normalize(weight, dim=1)
    edited = rows - strength * torch.outer(direction, direction @ rows)
    if row_normalization == "pre":
        return edited * norms
    return torch.nn.functional.normalize(edited, dim=1) * norms
