"""A tiny model whose experts are modules."""

import copy
from typing import Any

import torch
from torch import nn

from tests.support.families import tiny


class Experts(nn.Module):
    """A mixture with a module for each expert. Each position is routed to one of them, and none to the last."""

    def __init__(self, mlp: nn.Module, count: int = 3) -> None:
        super().__init__()
        self.experts = nn.ModuleList(copy.deepcopy(mlp) for _ in range(count))
        self.gate = nn.Linear(32, count - 1)
        nn.init.normal_(self.gate.weight, generator=torch.Generator().manual_seed(0))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        flat = hidden.reshape(-1, 32)
        chosen = self.gate(flat).argmax(dim=-1)
        out = torch.zeros_like(flat)
        for number, expert in enumerate(self.experts):
            out[chosen == number] = expert(flat[chosen == number])
        return out.view(hidden.shape)


def with_experts() -> Any:
    model = tiny("llama")
    for layer in model.model.layers:
        layer.mlp = Experts(layer.mlp)
    return model.eval()
