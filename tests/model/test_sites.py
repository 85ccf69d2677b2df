"""Sites are proved, and what cannot be accounted for is an error that shows what was looked at."""

import pytest
import torch
from torch import nn

from families import tiny
from heretic.errors import ModelError
from heretic.model.layers import decoder_layers
from heretic.model.sites import component_label, find_sites


class WithSideBranch(nn.Module):
    """A layer that writes a second time, through something that is no matrix product."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.shift = nn.Parameter(torch.ones(32))

    def forward(self, hidden: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        return self.layer(hidden, *args, **kwargs) + self.shift


def test_a_writer_that_nobody_sees_is_an_error() -> None:
    model = tiny("llama")
    model.model.layers[1] = WithSideBranch(model.model.layers[1])
    with pytest.raises(ModelError, match=r"decoder layer 1 \(WithSideBranch\).*silenced.*remains.*down_proj"):
        find_sites(model)


def test_fused_experts_are_not_skipped_without_a_word() -> None:
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=4,
    )
    with pytest.raises(ModelError, match="Mixtures of experts"):
        find_sites(MixtralForCausalLM(config).eval())


def test_projections_as_wide_as_the_stream_are_not_taken_for_writers() -> None:
    """q_proj writes d_model features too, but not to the stream."""
    model = tiny("llama")
    assert model.model.layers[0].self_attn.q_proj.out_features == 32
    assert not any("q_proj" in site.module for site in find_sites(model))


def test_no_layers_is_an_error_that_lists_what_there_is() -> None:
    model = tiny("llama")
    model.config.num_hidden_layers = 7
    with pytest.raises(ModelError, match=r"list of 7 decoder layers.*model\.layers \(3 of LlamaDecoderLayer\)"):
        decoder_layers(model)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("self_attn.o_proj", "attn.o_proj"),
        ("self_attention.dense", "attn.o_proj"),
        ("attn.c_proj", "attn.o_proj"),
        ("mlp.c_proj", "mlp.down_proj"),
        ("fc2", "mlp.down_proj"),
        ("feed_forward.w2", "mlp.down_proj"),
        ("mixer.out_proj", "mixer.out_proj"),
    ],
)
def test_labels(name: str, label: str) -> None:
    assert component_label(name) == label
