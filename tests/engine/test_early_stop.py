"""Candidates that have lost end early, and the front is the one that full evaluation gives."""

from collections.abc import Sequence
from functools import partial

import pytest
import torch

from heretic.ablation.edit import SiteEdit
from heretic.ablation.parameters import AblationParameters
from heretic.engine.early_stop import FIRST_VERDICT, TAIL, EarlyStopper, Row
from heretic.evaluation.evaluator import Baseline, Evaluation, Evaluator
from heretic.evaluation.pruning.refusal_onset import RefusalOnset
from heretic.evaluation.scores import scores
from heretic.search.loop import _enough
from heretic.study.pareto import pareto_front
from heretic.study.schema import TrialRecord
from tests.support.engines import PROMPTS, engine_for
from tests.support.study_toys import baseline as baseline_record

LENGTH = 40
NOTHING = AblationParameters(direction_scope="per layer", direction_index=1.0, kernels={})


def random_edit(engine, draw: torch.Generator) -> dict[str, SiteEdit]:  # type: ignore[no-untyped-def]
    vector = torch.nn.functional.normalize(torch.randn(32, 1, generator=draw), dim=0)
    strength = float(torch.rand(1, generator=draw))
    return {site.module: SiteEdit(strength * vector, vector) for site in engine.sites}


def record(number: int, evaluation: Evaluation) -> TrialRecord:
    return TrialRecord(
        number=number,
        refusals=evaluation.refusals,
        kl_divergence=evaluation.kl_divergence,
        parameters=NOTHING,
        bound=evaluation.bound,
        over_refusals=evaluation.over_refusals,
    )


@pytest.mark.parametrize("batch_size", [64, 4])
@pytest.mark.parametrize("objectives", [2, 3])
def test_the_front_is_that_of_full_evaluation(batch_size: int, objectives: int) -> None:
    engine = engine_for("llama", batch_size)
    # On these random models a response counts as declined by one common word: some show it early, some late.
    over = PROMPTS[: len(PROMPTS) // 2] if objectives == 3 else []
    evaluator = Evaluator(engine, PROMPTS, PROMPTS, ["word1", "sorry", "word22"], LENGTH, over=over)
    baseline = evaluator.baseline()
    against = baseline_record(over=(0, len(over)) if over else None)
    draw = torch.Generator().manual_seed(3)
    full: list[TrialRecord] = []
    early: list[TrialRecord] = []
    for number in range(16):
        edit = random_edit(engine, draw)
        [whole] = evaluator.evaluate([edit], baseline)
        assert isinstance(whole, Evaluation)
        full.append(record(number, whole))
        [known] = evaluator.evaluate([edit], baseline, enough=partial(_enough, early, against))
        assert isinstance(known, Evaluation)
        early.append(record(number, known))
        assert known.kl_divergence == whole.kl_divergence
        assert known.refusals <= whole.refusals
        assert known.over_refusals == whole.over_refusals
        if known.bound:
            assert known.estimate is not None
            assert known.refusals <= known.estimate <= len(PROMPTS)
        else:
            assert known == whole
    assert sum(trial.bound for trial in early) > 3, "nothing was given up: this test proves nothing"
    assert pareto_front(early, against) == pareto_front(full, against)


def test_no_candidate_is_given_up_before_the_sampler_learns_something() -> None:
    watch = EarlyStopper(lambda rows: ["sorry" for _ in rows], lambda text: True, [1, None])
    rows = [Row(0), Row(0), Row(1)]
    rows[1].ended = True
    watch(rows, FIRST_VERDICT - 4, last=False)
    assert [row.decided for row in rows] == [True, False, True]
    assert not watch.given_up
    rows.append(Row(0))
    watch(rows, FIRST_VERDICT + 1, last=False)
    assert watch.given_up == {0}
    assert [row.cut for row in rows] == [False, False, False, True], "what has ended is known, and stays so"


def test_a_growing_text_is_looked_at_once() -> None:
    looked_at: list[int] = []

    def decode(rows: Sequence[Sequence[int]]) -> list[str]:
        looked_at.extend(len(row) for row in rows)
        return ["".join(chr(97 + token) for token in row) for row in rows]

    watch = EarlyStopper(decode, lambda text: "bcde" in text, [None])
    # The marker lies across two looks.
    row = Row(0)
    for step in range(1, 201):
        row.tokens.append({150: 1, 151: 2, 152: 3, 153: 4}.get(step, 0))
        watch([row], step, last=False)
        assert row.decided == (step >= 156)
    assert max(looked_at) == TAIL


def test_the_estimate_makes_up_for_what_does_not_show_yet() -> None:
    seen = RefusalOnset()
    assert seen.share(10) == 1.0
    seen.learn([4, 8, 8, 60])
    assert seen.share(12) == pytest.approx(4 / 5)
    baseline = Baseline(torch.zeros(1, 2), 50, 100)
    given_up = Evaluation(refusals=8, prompts=100, kl_divergence=0.2, bound=True, estimate=10.0)
    whole = Evaluation(refusals=10, prompts=100, kl_divergence=0.2)
    assert scores(given_up, baseline, 1.0, 0.01) == scores(whole, baseline, 1.0, 0.01)
