"""Values that are drawn from cells are those that Optuna's densities would give."""

from typing import Any

import numpy as np
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator, _ParzenEstimatorParameters

from heretic.study.density_cells import DensityCells

PARAMETERS = _ParzenEstimatorParameters(1.0, True, False, np.ones, False)


def densities(distribution: BaseDistribution, good: Any, others: Any) -> list[Any]:
    return [_ParzenEstimator({"x": np.array(each)}, {"x": distribution}, PARAMETERS) for each in (good, others)]


def values(distribution: BaseDistribution, good: Any, others: Any, count: int, draws: int = 400) -> np.ndarray:
    cells = DensityCells.of("x", distribution, *densities(distribution, good, others))
    rng = np.random.RandomState(0)
    return np.array([cells.draw(rng, count) for _ in range(draws)])


def optunas(distribution: BaseDistribution, good: Any, others: Any, count: int, draws: int = 400) -> np.ndarray:
    below, above = densities(distribution, good, others)
    rng, found = np.random.RandomState(1), []
    for _ in range(draws):
        samples = below.sample(rng, count)
        found.append(samples["x"][np.argmax(below.log_pdf(samples) - above.log_pdf(samples))])
    return np.array(found)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("count", [1, 24])
def test_numbers_have_optunas_distribution(log: bool, count: int) -> None:
    distribution = FloatDistribution(1.0, 20.0, log=log)
    good, others = [3.0, 3.5, 4.0, 9.0], [1.5, 6.0, 8.0, 9.5, 12.0, 15.0, 19.0]
    ours, theirs = (each(distribution, good, others, count) for each in (values, optunas))
    assert ours.min() >= 1.0
    assert ours.max() <= 20.0
    # Quantiles of 400 draws differ by chance.
    for share in (0.25, 0.5, 0.75):
        assert np.quantile(ours, share) == pytest.approx(np.quantile(theirs, share), abs=1.3)
    assert len(set(ours)) == len(ours)


def test_choices_have_optunas_distribution() -> None:
    distribution = CategoricalDistribution(("a", "b", "c"))
    good, others = [0, 0, 1], [1, 1, 2, 2, 2]
    ours, theirs = (each(distribution, good, others, 1) for each in (values, optunas))
    for choice in range(3):
        assert np.mean(ours == choice) == pytest.approx(np.mean(theirs == choice), abs=0.1)
    assert set(values(distribution, good, others, 24)) == {0.0}
