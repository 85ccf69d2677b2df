"""A look tells a candidate's KL as a measurement does, and counts refusals where they have been most often."""

import pytest

from heretic.evaluation import evaluator as evaluating
from heretic.evaluation.evaluator import Evaluation, Evaluator
from heretic.evaluation.pruning.preview import TOKENS, Preview
from heretic.evaluation.pruning.statistics import PruningStatistics
from tests.support.engines import PROMPTS, engine_for

MARKERS = ["word1", "sorry", "word22"]


def test_a_look_asks_the_prompts_that_were_declined_most_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluating, "PROMPTS", 3)
    engine = engine_for("llama", 64)
    evaluator = Evaluator(engine, PROMPTS, PROMPTS, MARKERS, TOKENS)
    baseline = evaluator.baseline()
    [whole] = evaluator.evaluate([{}], baseline)
    assert isinstance(whole, Evaluation)
    assert whole.declined_at is not None
    declined = [token is not None for token in whole.declined_at]
    assert 3 <= sum(declined) <= len(PROMPTS) - 3, "all alike: this test proves nothing"
    for wanted, counted in ((True, 3), (False, 0)):
        learned = PruningStatistics(len(PROMPTS))
        learned.learn([1 if each == wanted else None for each in declined])
        [look] = evaluator.look([{}], baseline, learned=learned)
        assert look == Preview(whole.kl_divergence, counted)
    assert evaluator.look([{}], baseline) == [Preview(whole.kl_divergence, 3)], "the baseline taught it"
