"""Two models on the same documents: the statistics are those of the textbook."""

import numpy as np
import pytest
from scipy.stats import binomtest

from heretic.benchmark.comparison import Document, TaskRun, compare_runs
from heretic.benchmark.packaged import PACKAGED, holds, packaged_task


def run_of(scores: list[float], unfinished: bool | None = None) -> TaskRun:
    documents = [Document("t", i, str(i), {"acc": score}, unfinished) for i, score in enumerate(scores)]
    return TaskRun(documents, {"acc": True})


def test_right_and_wrong_are_compared_by_mcnemar() -> None:
    baseline, candidate = run_of([1] * 30 + [0] * 10), run_of([0] * 9 + [1] * 21 + [1] + [0] * 9)
    result = compare_runs("t", "T", "", 3, None, baseline, candidate)
    [metric] = result.metrics
    assert metric.paired is not None and (metric.paired.only_first, metric.paired.only_second) == (9, 1)
    assert metric.p_value == pytest.approx(binomtest(9, 10, 0.5).pvalue)
    assert (metric.baseline, metric.candidate) == (0.75, 0.55)
    assert metric.low <= -0.2 <= metric.high
    assert result.baseline_unfinished is None


def test_scores_that_are_no_verdicts_are_permuted() -> None:
    generator = np.random.default_rng(0)
    first = generator.uniform(0.2, 0.8, 40)
    same = compare_runs("t", "T", "", 1, None, run_of(first.tolist()), run_of(first.tolist())).metrics[0]
    assert (same.p_value, same.low, same.high, same.paired) == (1.0, 0.0, 0.0, None)
    worse = compare_runs("t", "T", "", 1, None, run_of(first.tolist()), run_of((first - 0.1).tolist())).metrics[0]
    assert worse.p_value < 0.001
    assert worse.high < 0


def test_only_documents_of_both_count() -> None:
    baseline, candidate = run_of([1, 1, 0], unfinished=True), run_of([1, 0], unfinished=False)
    result = compare_runs("t", "T", "", 1, 3, baseline, candidate)
    assert result.documents == 2
    assert result.baseline_unfinished is not None and result.baseline_unfinished.share == 1
    assert result.candidate_unfinished is not None and result.candidate_unfinished.share == 0


@pytest.mark.parametrize(
    ("response", "answer", "right"),
    [
        ("The answer is 12.", "12", True),
        ("It is 120.", "12", False),
        ("rome", "Rome", True),
        ("The first letter is A.", "A", True),
        ("It is a letter.", "A", False),
        ("river", "RIVER", False),
        ("Romeo", "Rome", False),
    ],
)
def test_a_short_answer_holds_the_word(response: str, answer: str, right: bool) -> None:
    assert holds(response, answer) is right


def test_packaged_questions_are_whole() -> None:
    for name in PACKAGED:
        documents = packaged_task(name)["custom_dataset"]()["test"]
        assert len(documents) == len({each["question"] for each in documents}) == 60
    facts = packaged_task("heretic-facts")["custom_dataset"]()["test"]
    # Each place is right as often: a model that always takes one of them gets a quarter.
    assert [sum(each["answer"] == place for each in facts) for place in range(4)] == [15] * 4
