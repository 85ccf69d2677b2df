"""Directions: unit vectors from the good mean to the bad mean."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from heretic.ablation.directions import DegenerateDirection, find_directions, interpolation
from heretic.ablation.parameters import WeightKernel
from heretic.ablation.residuals import ResidualFitter, ResidualStats, winsorize


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def stats(mean: Tensor) -> ResidualStats:
    return ResidualStats(mean, 1)


def test_a_shift_between_the_means_is_found() -> None:
    good = random(4, 16)
    shift = torch.nn.functional.normalize(random(4, 16, seed=1), dim=1)
    found = find_directions(stats(good), stats(good + 3 * shift), orthogonalize=False).vectors
    assert_close(found, shift, atol=1e-5, rtol=0)
    assert_close(found.norm(dim=1), torch.ones(4))


def test_orthogonalised_directions_are_no_part_of_the_good_mean() -> None:
    good, bad = random(4, 16), random(4, 16, seed=1)
    plain = find_directions(stats(good), stats(bad), orthogonalize=False).vectors
    assert (plain * good).sum(1).abs().min() > 0.1
    found = find_directions(stats(good), stats(bad)).vectors
    assert_close((found * good).sum(1), torch.zeros(4), atol=1e-5, rtol=0)
    assert_close(found.norm(dim=1), torch.ones(4))


def test_equal_means_have_no_direction() -> None:
    good = random(4, 16)
    with pytest.raises(DegenerateDirection, match="after layer 0"):
        find_directions(stats(good), stats(good))


def test_the_embedding_output_may_be_the_same() -> None:
    """The template ends alike for all prompts, so index 0 has no direction; no edit uses it."""
    good, bad = random(4, 16), random(4, 16, seed=1)
    bad[0] = good[0]
    assert find_directions(stats(good), stats(bad)).vectors[0].norm() == 0


def test_the_mean_does_not_depend_on_batches() -> None:
    residuals = random(10, 3, 8)
    whole, parts = ResidualFitter(), ResidualFitter()
    whole.update(residuals)
    for part in residuals.split(3):
        parts.update(part)
    assert_close(whole.fit().mean, residuals.double().mean(0).float())
    assert_close(whole.fit().mean, parts.fit().mean)
    assert whole.fit().count == parts.fit().count == 10


def test_winsorizing_clamps_the_largest_magnitudes_of_each_residual() -> None:
    residuals = random(2, 3, 100)
    residuals[0, 1, 7] = 1000.0
    clamped = winsorize(residuals, 0.95)
    limit = torch.quantile(residuals[0, 1].abs(), 0.95)
    assert clamped[0, 1, 7] == limit
    assert_close(clamped[0, 1].abs().max(), limit)
    assert (clamped == residuals).float().mean() > 0.9
    assert winsorize(residuals, 1.0) is residuals


def test_index_i_addresses_the_output_of_layer_i() -> None:
    assert interpolation(0.0, 4).tolist() == [0, 1, 0, 0]
    assert interpolation(2.0, 4).tolist() == [0, 0, 0, 1]
    assert interpolation(1.25, 4).tolist() == [0, 0, 0.75, 0.25]
    with pytest.raises(ValueError, match=r"0 \.\. 2"):
        interpolation(2.01, 4)


def test_the_kernel_is_a_tent_cut_off_at_its_edges() -> None:
    kernel = WeightKernel(max_weight=1.2, max_weight_position=10, min_weight=0.2, min_weight_distance=4)
    assert [round(kernel.weight(layer), 6) for layer in (5, 6, 8, 10, 12, 14, 15)] == [0, 0.2, 0.7, 1.2, 0.7, 0.2, 0]
