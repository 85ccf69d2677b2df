"""The closed form of an edit: it removes the direction, keeps what its mode keeps, and equals the step-by-step edit."""

import itertools

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from heretic.ablation.directions import Directions
from heretic.ablation.edit import SiteEdit, edit_output, edit_weight, stack_edits
from heretic.ablation.methods.kernel.compile import compile_site
from heretic.ablation.methods.kernel.parameters import KernelParameters
from heretic.ablation.parameters import AblationParameters, WeightKernel
from heretic.ablation.sites import Site
from heretic.ablation.weight_stats import weight_stats
from tests.support.naive import naive_edit

MODES = ("none", "pre", "full")
D_MODEL, D_IN, LAYERS = 12, 20, 3
SITE = Site(1, "attn.o_proj", "layers.1.o_proj", "layers.1.o_proj.weight")


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unit_directions() -> Directions:
    return Directions(torch.nn.functional.normalize(random(LAYERS + 1, D_MODEL, seed=1), dim=1))


def candidate(strength: float, scope: str = "per layer", index: float = 1.0) -> AblationParameters:
    kernel = WeightKernel(max_weight=strength, max_weight_position=1, min_weight=strength, min_weight_distance=1)
    return KernelParameters(direction_scope=scope, direction_index=index, kernels={"attn.o_proj": kernel})


def compiled(weight: Tensor, parameters: AblationParameters, mode: str, gain: Tensor | None = None) -> SiteEdit:
    directions = unit_directions()
    edit = compile_site(parameters, directions, SITE, weight_stats(weight, directions.vectors, gain), mode)
    assert edit is not None
    return edit


def test_full_strength_removes_the_direction() -> None:
    weight, direction = random(D_MODEL, D_IN), unit_directions().vectors[2]
    assert (direction @ weight).norm() > 1
    edited = edit_weight(compiled(weight, candidate(1.0), "none"), weight)
    assert_close(direction @ edited, torch.zeros(D_IN), atol=1e-6, rtol=0)


def test_full_keeps_the_row_norms() -> None:
    weight = random(D_MODEL, D_IN)
    edited = edit_weight(compiled(weight, candidate(1.3), "full"), weight)
    assert (edited - weight).norm() > 0.1
    assert_close(edited.norm(dim=1), weight.norm(dim=1))
    pre = edit_weight(compiled(weight, candidate(1.3), "pre"), weight)
    assert (pre.norm(dim=1) - weight.norm(dim=1)).abs().max() > 0.1


@pytest.mark.parametrize(("mode", "strength"), list(itertools.product(MODES, (0.4, 1.0, 1.5))))
def test_closed_form_is_the_edit_step_by_step(mode: str, strength: float) -> None:
    weight = random(D_MODEL, D_IN).double()
    # Rows of very different size, as in trained models, tell the modes apart.
    weight = (weight * torch.logspace(-2, 1, D_MODEL)[:, None]).float()
    edited = edit_weight(compiled(weight, candidate(strength), mode), weight)
    assert_close(edited, naive_edit(weight, unit_directions().vectors[2], strength, mode), atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize("mode", MODES)
def test_a_zero_row_stays_zero(mode: str) -> None:
    weight = random(D_MODEL, D_IN)
    weight[3] = 0.0
    edited = edit_weight(compiled(weight, candidate(1.0), mode), weight)
    assert torch.isfinite(edited).all()
    if mode != "none":
        assert edited[3].norm() == 0.0
        assert_close(edited, naive_edit(weight, unit_directions().vectors[2], 1.0, mode), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_outputs_are_edited_as_weights_are(mode: str) -> None:
    weight, inputs = random(D_MODEL, D_IN), random(2, 5, D_IN, seed=2)
    edit = compiled(weight, candidate(0.9), mode)
    written = edit_output(edit, inputs @ weight.mT)
    assert (written - inputs @ weight.mT).norm() > 0.1
    assert_close(written, inputs @ edit_weight(edit, weight).mT, atol=1e-5, rtol=1e-5)


def test_a_post_norms_gain_is_taken_into_account() -> None:
    """With a gain after the site, the stream must lose the direction, not the output of the site."""
    weight, gain, direction = random(D_MODEL, D_IN), random(D_MODEL, seed=3), unit_directions().vectors[2]
    plain = edit_weight(compiled(weight, candidate(1.0), "none"), weight)
    gained = edit_weight(compiled(weight, candidate(1.0), "none", gain), weight)
    assert (direction @ (gain[:, None] * plain)).norm() > 0.1
    assert_close(direction @ (gain[:, None] * gained), torch.zeros(D_IN), atol=1e-5, rtol=0)


@pytest.mark.parametrize("mode", MODES)
def test_interpolated_directions_need_no_other_statistics(mode: str) -> None:
    weight, vectors = random(D_MODEL, D_IN), unit_directions().vectors
    edited = edit_weight(compiled(weight, candidate(1.1, "global", 0.25), mode), weight)
    between = torch.nn.functional.normalize(0.75 * vectors[1] + 0.25 * vectors[2], dim=0)
    assert_close(edited, naive_edit(weight, between, 1.1, mode), atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize("mode", MODES)
def test_stacked_edits_are_the_edits_one_by_one(mode: str) -> None:
    weight, outputs = random(D_MODEL, D_IN), random(3, 4, D_MODEL, seed=4)
    edits = [compiled(weight, candidate(0.7), mode), None, compiled(weight, candidate(1.4, "global", 0.0), mode)]
    together = edit_output(stack_edits(edits), outputs)
    for edit, output, result in zip(edits, outputs, together, strict=True):
        assert_close(result, output if edit is None else edit_output(edit, output))


def test_a_layer_beyond_the_kernel_is_not_edited() -> None:
    kernel = WeightKernel(max_weight=1, max_weight_position=2.5, min_weight=0.5, min_weight_distance=1)
    parameters = KernelParameters(direction_scope="per layer", direction_index=1, kernels={"attn.o_proj": kernel})
    directions = unit_directions()
    stats = weight_stats(random(D_MODEL, D_IN), directions.vectors)
    assert compile_site(parameters, directions, SITE, stats, "full") is None
    with pytest.raises(ValueError, match="no kernel for mlp"):
        compile_site(parameters, directions, Site(1, "mlp.down_proj", "m", "m.weight"), stats, "full")
