"""The table of residuals: textbook cases, and the coefficient from two loops over all pairs."""

import math

import pytest
import torch
from torch import Tensor

from heretic.ablation.directions import Directions
from heretic.report.geometry import GEOMETRY_COLUMNS, geometry, geometry_rows, silhouette


def groups(n_good: int, n_bad: int, apart: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    good, bad = torch.randn(n_good, 8, generator=generator), torch.randn(n_bad, 8, generator=generator)
    return good, bad + apart


def naive_silhouette(good: Tensor, bad: Tensor) -> float:
    coefficients = []
    for own, other in ((good, bad), (bad, good)):
        for i, point in enumerate(own):
            if len(own) == 1:
                coefficients.append(0.0)
                continue
            a = sum(math.dist(point, each) for j, each in enumerate(own) if j != i) / (len(own) - 1)
            b = sum(math.dist(point, each) for each in other) / len(other)
            coefficients.append((b - a) / max(a, b))
    return sum(coefficients) / len(coefficients)


@pytest.mark.parametrize(("n_good", "n_bad"), [(7, 7), (5, 11), (1, 6), (1, 1)])
@pytest.mark.parametrize("apart", [0.0, 0.7, 30.0])
def test_the_silhouette_is_that_of_two_loops(n_good: int, n_bad: int, apart: float) -> None:
    good, bad = groups(n_good, n_bad, apart)
    assert silhouette(good, bad) == pytest.approx(naive_silhouette(good, bad), abs=1e-6)


def test_the_silhouette_is_the_librarys() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    good, bad = groups(20, 30, 1.0)
    expected = metrics.silhouette_score(torch.cat([good, bad]).numpy(), [0] * 20 + [1] * 30)
    assert silhouette(good, bad) == pytest.approx(expected, abs=1e-5)


def test_a_feature_that_is_large_in_all_residuals_changes_nothing() -> None:
    """Some features of large models are ten thousand times the others: the differences must survive them."""
    good, bad = groups(9, 9, 0.5)
    shifted = [each.double() + 1e6 * torch.eye(8)[0].double() for each in (good, bad)]
    assert silhouette(*shifted) == pytest.approx(naive_silhouette(good, bad), abs=1e-6)


def test_groups_that_coincide_are_not_apart() -> None:
    same = torch.ones(4, 8)
    assert silhouette(same, same) == 0.0


def test_each_figure_is_of_its_layer() -> None:
    good = torch.tensor([[[1.0, 0.0], [3.0, 0.0]], [[1.0, 0.0], [5.0, 0.0]]])
    bad = torch.tensor([[[1.0, 0.0], [0.0, 2.0]], [[1.0, 0.0], [0.0, 4.0]], [[1.0, 0.0], [0.0, 3.0]]])
    embeddings, layer = geometry(good, bad, Directions(torch.tensor([[0.0, 0.0], [-0.8, 0.6]])))
    assert (layer.good_norm, layer.bad_norm, layer.difference_norm) == (4.0, 3.0, 5.0)
    assert layer.cosine_means == 0.0
    assert (layer.cosine_good, layer.cosine_bad) == pytest.approx((-0.8, 0.6))
    assert embeddings.cosine_means == 1.0 and embeddings.difference_norm == 0.0
    assert math.isnan(embeddings.cosine_good), "the direction is 0 there"
    rows = geometry_rows([embeddings, layer])
    assert [row[0] for row in rows] == ["embeddings", "0"]
    assert rows[0][5] == "-" and rows[1][1:7] == ["4", "3", "5", "0.0000", "-0.8000", "0.6000"]
    assert all(len(row) == len(GEOMETRY_COLUMNS) for row in rows)
