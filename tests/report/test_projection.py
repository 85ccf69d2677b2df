"""Pictures of consecutive layers lie alike, and show good and bad apart where they are."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from heretic.report.projection import LEAST_POINTS, principal_components, project_layers, turned_like


def cloud(n_prompts: int, seed: int = 0, d_model: int = 16) -> Tensor:
    return torch.randn(n_prompts, d_model, generator=torch.Generator().manual_seed(seed))


def mirrored(points: Tensor, angle: float) -> Tensor:
    turn = torch.tensor(angle)
    rotation = torch.stack([torch.stack([turn.cos(), -turn.sin()]), torch.stack([turn.sin(), turn.cos()])])
    return points @ rotation @ torch.diag(torch.tensor([1.0, -1.0]))


def test_a_plane_that_was_turned_and_mirrored_is_turned_back() -> None:
    plane = cloud(30, d_model=2)
    plane = plane - plane.mean(dim=0)
    turned = mirrored(plane, 2.0)
    assert (turned - plane).norm() > 1
    assert_close(turned_like(plane, turned), plane, atol=1e-5, rtol=1e-5)


def test_principal_components_keep_what_varies_most() -> None:
    points = cloud(50) * torch.tensor([9.0, 0.1, 7.0] + [0.1] * 13)
    plane, strong = principal_components(points), points[:, [0, 2]]
    assert_close(torch.cdist(plane, plane), torch.cdist(strong, strong), atol=0.2, rtol=0.0)


def test_few_prompts_are_shown_by_principal_components() -> None:
    layer = cloud(LEAST_POINTS - 1)
    [plane] = project_layers(layer[:, None])
    assert_close(plane.abs(), principal_components(layer).abs(), atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_layers_lie_alike_and_groups_apart() -> None:
    pytest.importorskip("pacmap")
    base = cloud(60)
    base[30:] += 6
    turn = torch.linalg.qr(cloud(16, seed=9)).Q
    # The second layer is the first in another basis: what a plane shows must not follow the basis.
    first, second = project_layers(torch.stack([base, base @ turn], dim=1))
    for plane in (first, second):
        between = (plane[:30].mean(dim=0) - plane[30:].mean(dim=0)).norm()
        assert between > 3 * plane[:30].std(dim=0).max()
    assert torch.nn.functional.cosine_similarity(first.flatten(), second.flatten(), dim=0) > 0.9
    [again] = project_layers(base[:, None])
    assert_close(again, first)
