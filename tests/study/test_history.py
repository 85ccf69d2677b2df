"""The history of a search: the hypervolume is that of the textbook and of Optuna."""

import numpy as np
import pytest

from heretic.study.history import dominated_area, dominated_volume, hypervolumes
from tests.support.study_toys import baseline, trial


def test_the_area_of_a_staircase() -> None:
    assert dominated_area([]) == 0
    assert dominated_area([(0.0, 0.0)]) == 1
    assert dominated_area([(0.5, 0.25)]) == pytest.approx(0.375)
    # Two steps: a dominated point and one out of reach change nothing.
    assert dominated_area([(0.5, 0.25), (0.25, 0.5), (0.6, 0.6), (0.1, 1.2)]) == pytest.approx(0.5)


def test_it_is_optunas() -> None:
    from optuna._hypervolume import compute_hypervolume

    generator = np.random.default_rng(0)
    for count in (1, 2, 7, 40):
        points = generator.uniform(0, 1, (count, 2))
        expected = compute_hypervolume(points, np.array([1.0, 1.0]))
        assert dominated_area([(float(x), float(y)) for x, y in points]) == pytest.approx(expected)
        solid = generator.uniform(0, 1.2, (count, 3))
        expected = compute_hypervolume(solid[(solid < 1).all(axis=1)], np.ones(3)) if (solid < 1).all(1).any() else 0.0
        assert dominated_volume([tuple(map(float, point)) for point in solid]) == pytest.approx(expected)
        fourfold = generator.uniform(0, 1, (count, 4))
        expected = compute_hypervolume(fourfold, np.ones(4))
        assert dominated_volume([tuple(map(float, point)) for point in fourfold]) == pytest.approx(expected)


def test_a_third_objective_adds_a_dimension() -> None:
    two, three = baseline(), baseline(over=(2, 10))
    assert hypervolumes([trial(0, 40, 0.5)], two) == [pytest.approx(0.25)]
    assert hypervolumes([trial(0, 40, 0.5, over=0)], three) == [pytest.approx(0.25)]
    assert hypervolumes([trial(0, 40, 0.5, over=4)], three) == [pytest.approx(0.15)]


def test_out_of_reach_of_the_reference_point_is_no_volume() -> None:
    assert hypervolumes([trial(0, 40, 0.5, over=10)], baseline(over=(2, 10))) == [0]
    assert hypervolumes([trial(0, 5, 0.1, pruned=True)], baseline()) == [0]
