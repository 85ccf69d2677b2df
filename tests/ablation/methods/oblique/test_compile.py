"""The compiled edit, from the moments of a site's outputs, removes the site's difference."""

from collections.abc import Iterator, Mapping
from typing import Literal

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from heretic.ablation.directions import Directions
from heretic.ablation.edit import edit_output
from heretic.ablation.methods.measurements import N_ANSWER, N_PROMPT
from heretic.ablation.methods.oblique.compile import compile_site, fit
from heretic.ablation.methods.oblique.parameters import ObliqueParameters
from heretic.ablation.methods.tensors import StudyTensors
from heretic.ablation.parameters import WeightKernel
from heretic.ablation.sites import ExpertSite, FusedExpertsSite, Site

WIDTH, LAYERS = 16, 3
SITE = Site(1, "mlp.down_proj", "m1", "m1.weight")


class Measurements:
    """What two sites write: bad prompts add a vector of the place, answers another than prompts."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        shape = (60, N_PROMPT + N_ANSWER, WIDTH)
        self.good = {name: torch.randn(shape, generator=generator) for name in ("m1", "block")}
        self.added = torch.randn(N_PROMPT + N_ANSWER, WIDTH, generator=generator)

    def site_outputs(self, side: Literal["good", "bad"]) -> Iterator[Mapping[str, Tensor]]:
        for part in (slice(0, 20), slice(20, 60)):
            yield {name: each[part] + (self.added if side == "bad" else 0.0) for name, each in self.good.items()}


def candidate(strength: float, share: float = 0.5) -> ObliqueParameters:
    kernel = WeightKernel(max_weight=strength, max_weight_position=1.0, min_weight=strength, min_weight_distance=0.5)
    return ObliqueParameters(shrink=0.1, answer_share=share, kernels={"mlp.down_proj": kernel})


@pytest.fixture(scope="module")
def tensors() -> StudyTensors:
    return StudyTensors(Directions(torch.eye(WIDTH)[: LAYERS + 1]), {}, fit(Measurements()))


@pytest.mark.parametrize(("share", "places"), [(0.0, slice(0, N_PROMPT)), (1.0, slice(N_PROMPT, None))])
def test_at_full_strength_the_difference_is_gone(tensors: StudyTensors, share: float, places: slice) -> None:
    difference = Measurements().added[places].mean(dim=0)[None]
    edit = compile_site(candidate(1.0, share), SITE, tensors)
    assert edit is not None and edit.scale is None
    assert difference.norm() > 1
    assert_close(edit_output(edit, difference), torch.zeros_like(difference), atol=1e-4, rtol=0)
    half = compile_site(candidate(0.5, share), SITE, tensors)
    assert half is not None
    assert_close(edit_output(half, difference), difference / 2, atol=1e-4, rtol=0)


def test_strength_0_leaves_a_site_as_it_is(tensors: StudyTensors) -> None:
    assert compile_site(candidate(0.0), SITE, tensors) is None
    assert compile_site(candidate(1.0), Site(2, "mlp.down_proj", "m1", "m1.weight"), tensors) is None


def test_experts_all_have_the_edit_of_their_block(tensors: StudyTensors) -> None:
    """It is linear, so that what the router sums is edited as the sum would be."""
    one = compile_site(
        candidate(0.7), ExpertSite(1, "mlp.down_proj", "e0", "e0.weight", expert=0, block="block"), tensors
    )
    fused = FusedExpertsSite(1, "mlp.down_proj", "e", "e.down", n_experts=3, block="block", chosen=(0, 2))
    several = compile_site(candidate(0.7), fused, tensors)
    assert one is not None and several is not None
    assert_close(several.left[0], one.left)
    assert several.right.shape == (3, WIDTH, 1)
    assert several.left[1].abs().max() == 0, "not chosen"
    written = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(1))
    routed = edit_output(one, 0.3 * written) + edit_output(one, 0.7 * written)
    assert_close(routed, edit_output(one, written))


def test_a_study_of_another_method_has_no_readers(tensors: StudyTensors) -> None:
    with pytest.raises(ValueError, match="another method"):
        compile_site(candidate(1.0), SITE, StudyTensors(tensors.directions, {}))
    with pytest.raises(ValueError, match=r"no kernel for attn"):
        compile_site(candidate(1.0), Site(1, "attn.o_proj", "m1", "m1.weight"), tensors)
