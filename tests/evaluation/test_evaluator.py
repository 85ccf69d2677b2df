"""Measurements become the objectives that the sampler minimises, and previews measure what they say."""

import math

import pytest

from heretic.errors import CandidateError
from heretic.evaluation.evaluator import Evaluation, Evaluator
from heretic.evaluation.pruning.preview import TOKENS, Preview
from heretic.evaluation.pruning.statistics import PruningStatistics
from heretic.evaluation.scorers import refusals
from heretic.evaluation.scorers.base import Measurement
from heretic.evaluation.scorers.kl import KLDivergence
from heretic.evaluation.scorers.over_refusals import OverRefusals
from heretic.evaluation.scorers.refusal_logodds import FirstTokenRefusals, MixedRefusals
from heretic.evaluation.scorers.refusals import MarkerRefusals
from tests.support.engines import PROMPTS, engine_for
from tests.support.scorers import baseline_of, evaluation, evaluator_for

MARKERS = ["word1", "sorry", "word22"]


def scores(
    measured: Evaluation, baseline: int, scale: float = 1.0, target: float = 0.01, kind: type = MarkerRefusals
) -> tuple[float, ...]:
    scorers = [KLDivergence([], scale, target), kind([], [], 1)]
    return Evaluator(None, scorers).scores(measured, baseline_of(baseline, probability=0.5))  # type: ignore[arg-type]


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
def test_the_scores_of_kl_divergence_and_refusals(
    refusals: int, kl: float, base: int, scale: float, target: float, expected: tuple[float, float]
) -> None:
    assert scores(evaluation(refusals, kl), base, scale, target) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kl", [0.5, 0.0])
def test_over_refusals_are_a_third_score(kl: float) -> None:
    scorers = [KLDivergence([]), MarkerRefusals([], [], 1), OverRefusals(PROMPTS[:8], [], 1)]
    evaluator = Evaluator(None, scorers)  # type: ignore[arg-type]
    measured = evaluator.scores(evaluation(20, kl, over=2), baseline_of(80, over=1))
    # Relative to all prompts, rather than to the baseline's over-refusals, which may be none.
    assert measured == (*scores(evaluation(20, kl), 80), 0.25)


def test_doing_nothing_does_not_win() -> None:
    nothing, gentle = scores(evaluation(80, 0.0), 80), scores(evaluation(40, 0.005), 80)
    assert gentle[0] < nothing[0]
    assert gentle[1] < nothing[1]


def test_below_the_target_less_kl_divergence_gains_nothing() -> None:
    assert scores(evaluation(40, 0.009), 80) == scores(evaluation(40, 0.0001), 80)
    assert scores(evaluation(40, 0.09), 80) != scores(evaluation(40, 0.08), 80)


def test_the_objective_decides_how_refusals_score() -> None:
    candidate = evaluation(20, 0.5, probability=0.1)
    assert scores(candidate, 80) == (0.5, 0.25)
    assert scores(candidate, 80, kind=FirstTokenRefusals) == (0.5, pytest.approx(0.2))
    assert scores(candidate, 80, kind=MixedRefusals) == (0.5, pytest.approx(0.225))


def test_a_pruned_candidate_scores_by_its_estimate() -> None:
    pruned = Evaluation({"refusals": Measurement(8, censored=True, estimate=10.0), "kl_divergence": Measurement(0.2)})
    assert pruned.pruned
    assert scores(pruned, 50) == scores(evaluation(10, 0.2), 50)


def test_a_record_begins_with_the_primary_metric() -> None:
    evaluator = evaluator_for(engine_for("llama", 64), PROMPTS, PROMPTS, MARKERS, TOKENS, PROMPTS[:8])
    recorded = evaluator.record(evaluator.baseline())
    assert list(recorded.metrics) == ["refusals", "kl_divergence", "over_refusals"]
    assert [metric.of for metric in recorded.metrics.values()] == [len(PROMPTS), None, 8]
    [whole] = evaluator.evaluate([{}], evaluator.baseline(recorded=recorded))
    assert isinstance(whole, Evaluation)
    assert list(whole.metrics) == list(recorded.metrics)
    assert whole.recorded()["refusals"].value == recorded.value("refusals"), "no edit: the baseline itself"


def test_a_candidate_whose_metric_is_not_finite_is_not_measured_further(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = evaluator_for(engine_for("llama", 64), PROMPTS, PROMPTS, MARKERS, TOKENS)
    baseline = evaluator.baseline()
    measured: list[int] = []
    measure = MarkerRefusals.measure

    def counting(self, run, edits, baseline):  # type: ignore[no-untyped-def]
        measured.append(len(edits))
        return measure(self, run, edits, baseline)

    monkeypatch.setattr(KLDivergence, "measure", lambda *_: [Measurement(math.nan), Measurement(0.1)])
    monkeypatch.setattr(MarkerRefusals, "measure", counting)
    broken, whole = evaluator.evaluate([{}, {}], baseline)
    assert isinstance(broken, CandidateError) and "is nan" in str(broken)
    assert isinstance(whole, Evaluation)
    assert measured == [1]


def test_a_preview_runs_the_prompts_that_were_declined_most_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "PROMPTS", 3)
    engine = engine_for("llama", 64)
    evaluator = evaluator_for(engine, PROMPTS, PROMPTS, MARKERS, TOKENS)
    baseline = evaluator.baseline()
    [whole] = evaluator.evaluate([{}], baseline)
    assert isinstance(whole, Evaluation)
    assert whole.declined_at is not None
    declined = [token is not None for token in whole.declined_at]
    assert 3 <= sum(declined) <= len(PROMPTS) - 3, "all alike: this test proves nothing"
    known = {"kl_divergence": whole.metrics["kl_divergence"].value}
    for wanted, counted in ((True, 3), (False, 0)):
        statistics = PruningStatistics.of(len(PROMPTS)).learn([1 if each == wanted else None for each in declined])
        assert evaluator.preview([{}], baseline, statistics=statistics) == [Preview(known, {"refusals": counted})]
    assert evaluator.preview([{}], baseline) == [Preview(known, {"refusals": 3})], "by the baseline's statistics"
