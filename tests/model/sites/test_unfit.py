"""Families whose weights can't be edited, and the reason that is given."""

from typing import Any

import pytest
import torch
from tiny_models import tiny_model
from torch import Tensor, nn

from heretic.errors import ModelError
from heretic.model.sites.find import find_sites
from tests.support.families import tiny


@pytest.mark.parametrize(
    ("family", "says"),
    [
        ("openai-gpt", r"layer 0 \(Block\) ln_2 normalises the sum"),
        ("git", r"layer 0 \(GitLayer\) output.LayerNorm normalises the sum"),
        ("rwkv", r"layer 0 \(RwkvBlock\) the output of feed_forward.value is multiplied by a gate"),
    ],
)
def test_the_reason_is_named_instead_of_a_request_for_a_report(family: str, says: str) -> None:
    with pytest.raises(ModelError, match=says) as raised:
        find_sites(tiny_model(family))
    assert "report" not in str(raised.value)


class GatedNorm(nn.Module):
    """A norm of two arguments."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, states: Tensor, gate: Tensor) -> Tensor:
        return nn.functional.rms_norm(states * gate.sigmoid(), states.shape[-1:], self.weight)


class EndsWithAGatedNorm(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.norm = layer, GatedNorm(layer.hidden_size)

    def forward(self, states: Tensor, **arguments: Any) -> Tensor:
        output = self.layer(states, **arguments)
        return self.norm(output, states)


def test_a_layer_whose_last_module_needs_more_than_the_stream_has_no_known_reason() -> None:
    model = tiny("llama")
    model.model.layers[1] = EndsWithAGatedNorm(model.model.layers[1])
    with pytest.raises(ModelError, match=r"decoder layer 1 \(EndsWithAGatedNorm\).*Please report this text"):
        find_sites(model)
