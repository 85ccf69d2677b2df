"""Two models on the same documents of a benchmark: means, intervals, paired tests, by SciPy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..evaluation.statistics import mean_interval, paired, rate
from .schema import DocumentScores, MetricResult, TaskResult


@dataclass(frozen=True, slots=True)
class Document:
    """A model's scores on one document. `unfinished` is None where nothing was generated; `sample` is the harness's
    own record of it."""

    task: str
    number: int
    digest: str
    scores: Mapping[str, float]
    unfinished: bool | None = None
    sample: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TaskRun:
    """One model on one benchmark; `higher_is_better` by metric."""

    documents: Sequence[Document]
    higher_is_better: Mapping[str, bool]


def compare_runs(
    task: str, name: str, description: str, trial: int, limit: int | None, baseline: TaskRun, candidate: TaskRun
) -> TaskResult:
    """The candidate's results and the baseline's, on the documents that both have."""
    others = {(each.task, each.number, each.digest): each for each in candidate.documents}
    pairs = [
        (each, others[key]) for each in baseline.documents if (key := (each.task, each.number, each.digest)) in others
    ]
    names = list(dict.fromkeys(metric for each, _ in pairs for metric in each.scores))
    unfinished = [(bool(a.unfinished), bool(b.unfinished)) for a, b in pairs if a.unfinished is not None]
    first, second = [a for a, _ in unfinished], [b for _, b in unfinished]
    return TaskResult(
        task=task,
        name=name,
        description=description,
        trial=trial,
        limit=limit,
        documents=len(pairs),
        metrics=[compare_metric(metric, pairs, baseline.higher_is_better.get(metric, True)) for metric in names],
        baseline_unfinished=rate(sum(first), len(first)) if first else None,
        candidate_unfinished=rate(sum(second), len(second)) if second else None,
        unfinished=paired(first, second) if first else None,
        scores=[
            DocumentScores(
                task=a.task, document=a.number, digest=a.digest, baseline=dict(a.scores), candidate=dict(b.scores)
            )
            for a, b in pairs
        ],
    )


def compare_metric(metric: str, pairs: Sequence[tuple[Document, Document]], higher_is_better: bool) -> MetricResult:
    both = [(a.scores[metric], b.scores[metric]) for a, b in pairs if metric in a.scores and metric in b.scores]
    first, second = np.array([a for a, _ in both], dtype=float), np.array([b for _, b in both], dtype=float)
    binary = bool(np.isin(np.concatenate([first, second]), (0.0, 1.0)).all())
    test = paired((first == 1).tolist(), (second == 1).tolist()) if binary else None
    low, high = mean_interval(second - first, "percentile")
    return MetricResult(
        metric=metric,
        higher_is_better=higher_is_better,
        documents=len(both),
        baseline=float(first.mean()),
        candidate=float(second.mean()),
        baseline_rate=rate(int(first.sum()), len(first)) if binary else None,
        candidate_rate=rate(int(second.sum()), len(second)) if binary else None,
        paired=test,
        low=low,
        high=high,
        p_value=test.p_value if test is not None else _permutation(second - first),
    )


def _permutation(differences: np.ndarray) -> float:
    """The p-value of a paired sign-flip test: how often random signs give as large a mean difference."""
    from scipy.stats import permutation_test

    if not differences.any():
        return 1.0
    result = permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=9999, rng=np.random.default_rng(0)
    )
    return float(result.pvalue)
