"""Results of benchmarks, as they are stored.

`BenchmarkResults` is the file `NAME.benchmarks.json` next to a study's journal: for each task and each candidate, its
scores and the baseline's on the same documents. It has the score of each document, but neither questions nor
responses, because most data sets should not be redistributed.
"""

from typing import Any, Literal

from ..evaluation.heldout.schema import Paired, Rate, StoredValue


class MetricResult(StoredValue):
    """One metric of one task, on the same documents.

    Means with intervals of 95 %: Wilson's where every document scores 0 or 1 (`paired` then is the exact McNemar test,
    `only_first` being those that only the baseline gets right), else `low` and `high` bound the mean difference
    (bootstrap). `p_value` is that of the exact McNemar test, or of a permutation of the pairs.
    """

    metric: str
    higher_is_better: bool
    documents: int
    baseline: float
    candidate: float
    baseline_rate: Rate | None
    candidate_rate: Rate | None
    paired: Paired | None
    low: float
    high: float
    p_value: float

    @property
    def distinguishable(self) -> bool:
        """At the level of 5 %."""
        return self.p_value < 0.05


class DocumentScores(StoredValue):
    """One document (`task` is a subtask where the benchmark is a group): its scores by metric."""

    task: str
    document: int
    digest: str
    baseline: dict[str, float]
    candidate: dict[str, float]


class TaskResult(StoredValue):
    """One benchmark of one candidate. `unfinished` are answers that the length limit cut off; None where none are
    generated. `limit`: how many documents of each task at most; None for all."""

    task: str
    name: str
    description: str
    trial: int
    limit: int | None
    documents: int
    metrics: list[MetricResult]
    baseline_unfinished: Rate | None
    candidate_unfinished: Rate | None
    unfinished: Paired | None
    scores: list[DocumentScores]


class BenchmarkResults(StoredValue):
    """All benchmarks of one study. `settings`: what both models were run with."""

    version: Literal[1] = 1
    model: str
    model_digest: str
    harness: str
    settings: dict[str, Any]
    tasks: list[TaskResult]
