"""Intervals and paired tests, by SciPy."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from .heldout.schema import KLStatistics, Paired, Rate

CONFIDENCE = 0.95
TRIMMED = 0.1
RESAMPLES = 2000


def rate(count: int, of: int) -> Rate:
    """A share with its Wilson interval (Wilson 1927); from 0 to 1 if there is nothing to count."""
    from scipy.stats import binomtest

    if of == 0:
        return Rate(count=0, of=0, low=0.0, high=1.0)
    interval = binomtest(count, of).proportion_ci(CONFIDENCE, method="wilson")
    return Rate(count=count, of=of, low=float(interval.low), high=float(interval.high))


def paired(first: Sequence[bool], second: Sequence[bool]) -> Paired:
    """Exact McNemar test (McNemar 1947) of two models' verdicts on the same prompts.

    Under the null hypothesis a prompt on which they differ is as likely to be the one's as the other's: a binomial
    test of the pairs that differ. With none of them, p is 1.
    """
    from scipy.stats import binomtest

    only_first = sum(a and not b for a, b in zip(first, second, strict=True))
    only_second = sum(b and not a for a, b in zip(first, second, strict=True))
    differing = only_first + only_second
    p_value = float(binomtest(only_first, differing, 0.5).pvalue) if differing else 1.0
    return Paired(only_first=only_first, only_second=only_second, p_value=min(1.0, p_value))


def kappa(first: Sequence[str], second: Sequence[str]) -> float | None:
    """Cohen's kappa (Cohen 1960) of two judges: (agreement - chance) / (1 - chance); None where chance is 1."""
    total = len(first)
    if not total:
        return None
    agree = sum(a == b for a, b in zip(first, second, strict=True)) / total
    shares = Counter(first), Counter(second)
    chance = sum(shares[0][word] * shares[1][word] for word in shares[0]) / total**2
    return None if chance == 1 else (agree - chance) / (1 - chance)


def kl_statistics(divergences: Sequence[float]) -> KLStatistics | None:
    """The distribution of one KL divergence a prompt; None where none is finite.

    Raises:
        ValueError: one of them is NaN.
    """
    from scipy.stats import sem, trim_mean

    # No divergence is below 0; negative rounding errors would give intervals below 0, and wrong shares.
    values = np.maximum(np.asarray(divergences, dtype=np.float64), 0.0)
    if np.isnan(values).any():
        raise ValueError("a KL divergence is NaN")
    finite = values[np.isfinite(values)]
    if not len(finite):
        return None
    low, high = mean_interval(finite)
    worst = int(np.where(np.isfinite(values), values, -np.inf).argmax())
    total = float(finite.sum())
    return KLStatistics(
        prompts=len(values),
        infinite=len(values) - len(finite),
        mean=float(finite.mean()),
        median=float(np.median(finite)),
        trimmed_mean=float(trim_mean(finite, TRIMMED)),
        standard_error=float(sem(finite)) if len(finite) > 1 else 0.0,
        low=low,
        high=high,
        worst=float(values[worst]),
        worst_prompt=worst,
        worst_share=float(values[worst]) / total if total > 0 else 0.0,
    )


def mean_interval(values: np.ndarray, method: Literal["BCa", "percentile"] = "BCa") -> tuple[float, float]:
    """The bootstrap interval of the mean (BCa: Efron 1987); its seed is fixed: equal data, equal interval."""
    from scipy.stats import bootstrap

    if np.ptp(values) == 0:
        # All resamples are equal: the spread, by which BCa divides, is 0.
        return float(values[0]), float(values[0])
    result = bootstrap(
        (values,),
        np.mean,
        confidence_level=CONFIDENCE,
        n_resamples=RESAMPLES,
        method=method,
        rng=np.random.default_rng(0),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)
