"""One parameter's densities of good and other trials in cells of its range, from which candidates are drawn in
microseconds."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution

CELLS = 200
"""Twice as many as the narrowest kernel of Optuna's densities fits a range."""


@dataclass(frozen=True, slots=True)
class DensityCells:
    """The probability that a good trial lies in the cells up to each one, and the logarithm of the ratio of both
    densities in each. Cells of numbers have `edges`, those of choices none."""

    cumulative: np.ndarray
    ratios: np.ndarray
    edges: np.ndarray | None
    log: bool = False

    @classmethod
    def of(cls, name: str, distribution: Any, good: Any, others: Any) -> "DensityCells":
        """From Optuna's densities of the parameter `name`, which is a choice or a number without steps."""
        edges, log = None, False
        if isinstance(distribution, CategoricalDistribution):
            points = np.arange(len(distribution.choices), dtype=float)
        else:
            log = distribution.log
            low, high = ((math.log(each) if log else each) for each in (distribution.low, distribution.high))
            edges = np.linspace(low, high, CELLS + 1)
            points = (edges[1:] + edges[:-1]) / 2
            points = np.exp(points) if log else points
        log_good = good.log_pdf({name: points})
        ratios = log_good - others.log_pdf({name: points})
        cumulative = np.cumsum(np.exp(log_good - log_good.max()))
        return cls(cumulative / cumulative[-1], ratios, edges, log)

    def draw(self, rng: np.random.RandomState, count: int) -> float:
        """Of `count` values drawn from the good density, the one with the largest ratio, in Optuna's internal form."""
        cells = np.searchsorted(self.cumulative, rng.random_sample(count), side="right")
        cell = int(cells[np.argmax(self.ratios[cells])])
        if self.edges is None:
            return float(cell)
        low, high = self.edges[cell], self.edges[cell + 1]
        value = float(low + rng.random_sample() * (high - low))
        return math.exp(value) if self.log else value
