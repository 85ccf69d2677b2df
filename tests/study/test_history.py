"""How a search went: the hypervolume is that of the textbook and of Optuna."""

import numpy as np
import pytest

from heretic.study.history import dominated_area, dominated_volume, hypervolumes
from heretic.study.schema import BaselineRecord
from tests.support.study_toys import trial


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
        assert dominated_volume([(float(x), float(y), float(z)) for x, y, z in solid]) == pytest.approx(expected)


def test_a_third_objective_adds_a_dimension() -> None:
    two, three = (
        BaselineRecord(refusals=80, prompts=100),
        BaselineRecord(refusals=80, prompts=100, over_refusals=2, over_prompts=10),
    )
    plain = [trial(0, 40, 0.5)]
    assert hypervolumes(plain, two) == [pytest.approx(0.25)]
    assert hypervolumes([plain[0].model_copy(update={"over_refusals": 0})], three) == [pytest.approx(0.25)]
    assert hypervolumes([plain[0].model_copy(update={"over_refusals": 4})], three) == [pytest.approx(0.15)]
