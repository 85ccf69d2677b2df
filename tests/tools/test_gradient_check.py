"""Gradients against finite differences: those of a working family agree, and a wrong one is seen."""

import pytest
import torch
from gradient_check import AGREES, deviation
from tiny_models import tiny_model
from torch import Tensor

from heretic.engine.learning.forward import AnswerForward
from heretic.errors import ModelError
from tests.support.families import tiny


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", ["gemma3n_text", "longcat_flash", "kosmos-2.5"])
def test_gradients_of_families_agree(family: str) -> None:
    """Streams before rows, two caches a layer, position ids viewed in another shape."""
    assert deviation(tiny_model(family)) < AGREES


def test_a_wrong_gradient_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the hidden state passes no gradient on."""
    states = AnswerForward.states

    def partly(self: AnswerForward, *args: object) -> Tensor:
        found = states(self, *args)  # type: ignore[arg-type]
        return torch.cat([found[..., ::2], found[..., 1::2].detach()], -1)[
            ..., torch.arange(found.shape[-1]).view(2, -1).T.flatten()
        ]

    monkeypatch.setattr(AnswerForward, "states", partly)
    assert deviation(tiny("llama")) > AGREES


def test_a_model_without_gradients_says_so() -> None:
    model = tiny("llama")
    model.model.layers[-1].register_forward_hook(lambda _, __, output: output.detach())
    with pytest.raises(ModelError, match='"kernel"'):
        deviation(model)
