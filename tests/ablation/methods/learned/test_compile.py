"""The stored form of learned tensors compiles to the edit that was learned."""

import pytest
import torch
from torch.testing import assert_close

from heretic.ablation.directions import Directions
from heretic.ablation.methods.learned.compile import compile_site, cosines_with, kept_tensors, strengths_by_layer
from heretic.ablation.methods.learned.layout import Layout, compile_learned, layout_of
from heretic.ablation.methods.tensors import StudyTensors
from heretic.ablation.sites import FusedExpertsSite, Site
from tests.support.learned_trials import learned_parameters

WIDTH, LAYERS = 8, 4
COMPONENTS = ("attn.o_proj", "mlp.down_proj")
SITES = [
    Site(layer=layer, component=name, module=f"{layer}.{name}", key=f"{layer}.{name}.weight")
    for layer in range(LAYERS)
    for name in COMPONENTS
]
GAINS = {"2.attn.o_proj": torch.linspace(0.5, 2.0, WIDTH)}
DIRECTIONS = Directions(torch.nn.functional.normalize(torch.ones(LAYERS + 1, WIDTH), dim=-1))


def layout(sites: list[Site] = SITES) -> Layout:
    return layout_of(sites, GAINS, 1)


def learned(layout: Layout, rank: int = 2) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    directions = torch.linalg.qr(torch.randn(layout.n_groups, WIDTH, rank, generator=draw))[0]
    return {"directions": directions, "strengths": torch.rand(len(layout.sites), rank, generator=draw)}


def test_a_site_has_the_edit_that_was_learned() -> None:
    whole = layout()
    tensors = learned(whole)
    study = StudyTensors(DIRECTIONS, GAINS, store={"abc": kept_tensors(tensors, whole)})
    for site in SITES[2:]:
        found, expected = compile_site(learned_parameters(), site, study), compile_learned(tensors, whole)[site.module]
        assert found is not None
        assert_close(found.left, expected.left)
        assert_close(found.right, expected.right)
    assert compile_site(learned_parameters(), SITES[0], study) is None, "the first layer is not edited"


def test_fused_experts_have_one_edit_each_and_others_are_left_alone() -> None:
    site = FusedExpertsSite(1, "mlp.down_proj", "experts", "experts.w", n_experts=3, block="mlp", chosen=(0, 2))
    whole = layout([site])
    study = StudyTensors(DIRECTIONS, {}, store={"abc": kept_tensors(learned(whole), whole)})
    edit = compile_site(learned_parameters(), site, study)
    assert edit is not None
    assert edit.left.shape == (3, WIDTH, 2)
    assert (edit.left[1] == 0).all() and (edit.left[2] != 0).any()


def test_readers_of_their_own_are_not_kept() -> None:
    whole = layout()
    with pytest.raises(ValueError, match="one direction a layer"):
        kept_tensors(learned(whole) | {"readers": torch.ones(whole.n_groups, WIDTH, 2)}, whole)


def test_strengths_and_cosines_are_by_layer() -> None:
    whole = layout()
    tensors = {"directions": torch.zeros(whole.n_groups, WIDTH, 1), "strengths": torch.full((len(whole.sites), 1), 0.5)}
    tensors["directions"][:, 0] = 1.0
    kept = kept_tensors(tensors, whole)
    assert strengths_by_layer(kept, whole, LAYERS) == dict.fromkeys(COMPONENTS, (0.0, 0.5, 0.5, 0.5))
    assert cosines_with(kept, DIRECTIONS, LAYERS) == (0.0, *[round(WIDTH**-0.5, 4)] * 3)
