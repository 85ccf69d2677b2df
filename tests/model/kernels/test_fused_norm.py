"""RMS norms of any family are found by measuring, and computed by one kernel."""

import pytest
import torch
from torch import nn

from heretic.engine.protocol import no_progress
from heretic.model.kernels.fused_norm import fuse_norms
from tests.support.engines import PROMPTS, engine_for, some_edit


@pytest.mark.parametrize(("family", "norms"), [("llama", 2 * 6 + 1), ("gemma2", 4 * 6 + 1), ("gpt2", 0)])
def test_norms_are_fused_and_logits_stay(family: str, norms: int) -> None:
    """Gemma's multiply by the weight plus 1; GPT-2 has other norms."""
    engine = engine_for(family, 16, n_layers=6 if norms else None)
    draw = torch.Generator().manual_seed(1)
    for module in engine.loaded.model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            weight = module.weight
            assert isinstance(weight, torch.Tensor)
            weight.data += 0.2 * torch.randn(weight.shape, generator=draw)
    with engine.without_layer_cache():
        edits = [some_edit(engine, 0), {}]
        before = engine.first_token_log_probabilities(PROMPTS, edits, no_progress)
        assert fuse_norms(engine.loaded.model) == norms
        after = engine.first_token_log_probabilities(PROMPTS, edits, no_progress)
    assert torch.allclose(before, after, atol=1e-4)
    assert fuse_norms(engine.loaded.model) == 0


class Norm(nn.Module):
    """A norm like Llama's, with another `power` or an argument more."""

    def __init__(self, power: float = 0.5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(0.5, 2, 24))
        self.eps = 1e-5
        self.other = 1e-6
        self.power = power

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.weight * rows / (rows.pow(2).mean(dim=-1, keepdim=True) + self.eps) ** self.power


class Gated(Norm):
    def forward(self, rows: torch.Tensor, gate: torch.Tensor | None = None) -> torch.Tensor:  # type: ignore[override]
        return super().forward(rows if gate is None else rows * gate)


def test_only_rms_norms_of_one_argument_are_replaced() -> None:
    model = nn.ModuleList([Norm(), Norm(power=0.4), Gated(), nn.LayerNorm(24), nn.Embedding(3, 24)])
    small = 1e-3 * torch.ones(2, 24)
    before = model[0](small)
    assert fuse_norms(model) == 1
    # Tests that the right epsilon is used: here the mean of squares is not much larger than it.
    assert "forward" in model[0].__dict__ and torch.allclose(model[0](small), before, rtol=1e-4)
