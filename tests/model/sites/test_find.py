"""Sites are proved, and a writer that is not found is an error that lists the modules examined."""

import pytest
import torch
from tiny_models import tiny_model
from torch import nn

from heretic.ablation.sites import ExpertSite, FusedExpertsSite
from heretic.errors import ModelError
from heretic.model.layers import decoder_layers
from heretic.model.sites.components import component_label
from heretic.model.sites.find import find_sites, site_shape
from tests.support.experts import with_experts
from tests.support.families import tiny


class WithSideBranch(nn.Module):
    """A layer with a second writer, which is no matrix product."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, hidden: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        return self.layer(hidden, *args, **kwargs) + hidden.flip(-1)


def test_a_writer_that_is_not_found_is_an_error() -> None:
    model = tiny("llama")
    model.model.layers[1] = WithSideBranch(model.model.layers[1])
    with pytest.raises(ModelError, match=r"decoder layer 1 \(WithSideBranch\).*at zero.*remains.*down_proj.*report"):
        find_sites(model)


def test_fused_experts_are_one_site_with_their_block() -> None:
    model = tiny_model("mixtral")
    experts = [site for site in find_sites(model) if site.component == "mlp.experts.down_proj"]
    assert [(site.layer, getattr(site, "n_experts", None)) for site in experts] == [(0, 4), (1, 4)]
    assert experts[0].key == "model.layers.0.mlp.experts.down_proj"
    assert isinstance(experts[0], FusedExpertsSite) and experts[0].block == "model.layers.0.mlp"
    assert site_shape(model, experts[0]) == (4, 32, 48)


def test_square_transposed_experts_are_recognised() -> None:
    """gpt-oss stores its experts as (experts, d_in, d_model), and here d_in equals d_model."""
    model = tiny_model("gpt_oss", intermediate_size=32)
    [site] = [site for site in find_sites(model) if site.layer == 0 and isinstance(site, FusedExpertsSite)]
    assert site.transposed
    assert site_shape(model, site) == (4, 32, 32)


def test_each_expert_module_is_a_site() -> None:
    """An expert that the router gave no position is a site with the others."""
    sites = [site for site in find_sites(with_experts()) if site.layer == 1 and "experts" in site.component]
    assert [site.module for site in sites] == [f"model.layers.1.mlp.experts.{i}.down_proj" for i in range(3)]
    assert [(site.expert, site.block) for site in sites if isinstance(site, ExpertSite)] == [
        (number, "model.layers.1.mlp") for number in range(3)
    ]


def test_projections_as_wide_as_the_stream_are_no_writers() -> None:
    """q_proj writes d_model features too, but not to the stream."""
    model = tiny("llama")
    assert model.model.layers[0].self_attn.q_proj.out_features == 32
    assert not any("q_proj" in site.module for site in find_sites(model))


def test_layers_are_found_where_the_configuration_counts_others() -> None:
    model = tiny("llama")
    model.config.num_hidden_layers = 7
    assert decoder_layers(model)[0] == "model.layers"


def test_no_layers_is_an_error_that_lists_the_module_lists() -> None:
    model = tiny("llama")
    model.model.layers = nn.Sequential(*model.model.layers)
    model.model.extra = nn.ModuleList([nn.Linear(2, 2)])
    with pytest.raises(ModelError, match=r"list of 3 decoder layers.*model\.extra \(1 of Linear\)"):
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
