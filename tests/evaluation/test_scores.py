"""The objectives of SPEC 6, and a third."""

import pytest
import torch

from heretic.evaluation.evaluator import Baseline, Evaluation
from heretic.evaluation.scores import scores


def of(refusals: int, probability: float | None = None) -> Baseline:
    return Baseline(torch.zeros(1, 2), refusals, 100, probability=probability)


def evaluation(refusals: int, kl: float) -> Evaluation:
    return Evaluation(refusals=refusals, prompts=100, kl_divergence=kl)


@pytest.mark.parametrize(
    ("refusals", "kl", "base", "scale", "target", "expected"),
    [
        (20, 0.5, 80, 1.0, 0.01, (0.5, 0.25)),
        (20, 0.5, 80, 2.0, 0.01, (0.25, 0.25)),
        (0, 0.5, 80, 1.0, 0.01, (0.5, 0.0)),
        (20, 0.01, 80, 1.0, 0.01, (0.01, 0.25)),  # at the target the KL divergence counts
        (20, 0.0099, 80, 1.0, 0.01, (0.0025, 0.25)),  # below it the refusals do
        (80, 0.0, 80, 1.0, 0.01, (0.01, 1.0)),
        (80, 0.0, 80, 2.0, 0.01, (0.005, 1.0)),
        (100, 0.0, 80, 1.0, 0.01, (0.0125, 1.25)),
        (3, 0.5, 0, 1.0, 0.01, (0.5, 3.0)),  # a baseline without refusals: the count itself
        (3, 0.0, 0, 1.0, 0.01, (0.03, 3.0)),
        (20, 0.0, 80, 1.0, 0.0, (0.0, 0.25)),  # no target
    ],
)
def test_kl_score_and_refusals_score(
    refusals: int, kl: float, base: int, scale: float, target: float, expected: tuple[float, float]
) -> None:
    assert scores(evaluation(refusals, kl), of(base), scale, target) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kl", [0.5, 0.0])
def test_over_refusals_are_a_third_score_where_they_are_counted(kl: float) -> None:
    baseline = Baseline(torch.zeros(1, 2), 80, 100, over_refusals=1, over_prompts=40)
    counted = evaluation(20, kl).model_copy(update={"over_refusals": 10})
    # Of all prompts, not of the baseline's over-refusals, which may be none.
    assert scores(counted, baseline, 1.0, 0.01) == (*scores(evaluation(20, kl), baseline, 1.0, 0.01), 0.25)


def test_doing_nothing_does_not_win() -> None:
    nothing = scores(evaluation(80, 0.0), of(80), 1.0, 0.01)
    gentle = scores(evaluation(40, 0.005), of(80), 1.0, 0.01)
    assert gentle[0] < nothing[0]
    assert gentle[1] < nothing[1]


def test_below_the_target_less_kl_gains_nothing() -> None:
    assert scores(evaluation(40, 0.009), of(80), 1.0, 0.01) == scores(evaluation(40, 0.0001), of(80), 1.0, 0.01)
    assert scores(evaluation(40, 0.09), of(80), 1.0, 0.01) != scores(evaluation(40, 0.08), of(80), 1.0, 0.01)


def test_the_objective_decides_what_refusing_is_measured_by() -> None:
    candidate = Evaluation(refusals=20, prompts=100, kl_divergence=0.5, probability=0.1)
    baseline = of(80, probability=0.5)
    assert scores(candidate, baseline, 1.0, 0.01, "markers") == (0.5, 0.25)
    assert scores(candidate, baseline, 1.0, 0.01, "log-odds") == (0.5, pytest.approx(0.2))
    assert scores(candidate, baseline, 1.0, 0.01, "both") == (0.5, pytest.approx(0.225))
