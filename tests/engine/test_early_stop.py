"""Dominated candidates are pruned, and the front is that of full evaluation."""

from collections.abc import Sequence
from functools import partial

import pytest
import torch

from heretic.ablation.edit import SiteEdit
from heretic.ablation.methods.kernel.parameters import KernelParameters
from heretic.engine.early_stop import MIN_TOKENS_BEFORE_PRUNING, TAIL_TOKENS, EarlyStopper, RowState
from heretic.evaluation.evaluator import Evaluation
from heretic.study.pareto import pareto_front, pruning_limit
from heretic.study.schema import TrialRecord
from tests.support.engines import PROMPTS, engine_for
from tests.support.scorers import evaluator_for

LENGTH = 40
NOTHING = KernelParameters(direction_scope="per layer", direction_index=1.0, kernels={})


def random_edit(engine, draw: torch.Generator) -> dict[str, SiteEdit]:  # type: ignore[no-untyped-def]
    vector = torch.nn.functional.normalize(torch.randn(32, 1, generator=draw), dim=0)
    strength = float(torch.rand(1, generator=draw))
    return {site.module: SiteEdit(strength * vector, vector) for site in engine.sites}


def record(number: int, evaluation: Evaluation) -> TrialRecord:
    return TrialRecord(number=number, parameters=NOTHING, metrics=evaluation.recorded())


@pytest.mark.parametrize(("batch_size", "objectives"), [(64, 2), (6, 3)])
def test_the_front_is_that_of_full_evaluation(batch_size: int, objectives: int) -> None:
    engine = engine_for("llama", batch_size)
    # On these random models a response counts as declined by one common word: some show it early, some late.
    over = PROMPTS[: len(PROMPTS) // 2] if objectives == 3 else []
    evaluator = evaluator_for(engine, PROMPTS, PROMPTS, ["word1", "sorry", "word22"], LENGTH, over)
    baseline = evaluator.baseline()
    against = evaluator.record(baseline)
    draw = torch.Generator().manual_seed(3)
    full: list[TrialRecord] = []
    early: list[TrialRecord] = []
    for number in range(16):
        edit = random_edit(engine, draw)
        [whole] = evaluator.evaluate([edit], baseline)
        assert isinstance(whole, Evaluation)
        full.append(record(number, whole))
        [known] = evaluator.evaluate([edit], baseline, limit=partial(pruning_limit, early, against))
        assert isinstance(known, Evaluation)
        early.append(record(number, known))
        refusals = known.metrics["refusals"]
        assert {**known.metrics, "refusals": None} == {**whole.metrics, "refusals": None}
        assert refusals.value <= whole.metrics["refusals"].value
        if known.pruned:
            assert refusals.estimate is not None
            assert refusals.value <= refusals.estimate <= len(PROMPTS)
        else:
            assert known == whole
    assert sum(trial.pruned for trial in early) > 3, "nothing was pruned: this test proves nothing"
    assert pareto_front(early, against) == pareto_front(full, against)


def test_no_candidate_is_pruned_before_the_sampler_learns_something() -> None:
    stopper = EarlyStopper(lambda rows: ["sorry" for _ in rows], lambda text: True, [1, None])
    rows = [RowState(0), RowState(0), RowState(1)]
    rows[1].ended = True
    stopper(rows, MIN_TOKENS_BEFORE_PRUNING - 4, last=False)
    assert [row.settled for row in rows] == [True, False, True]
    assert not stopper.pruned
    rows.append(RowState(0))
    stopper(rows, MIN_TOKENS_BEFORE_PRUNING + 1, last=False)
    assert stopper.pruned == {0}
    assert [row.pruned for row in rows] == [False, False, False, True], "rows that have ended are not pruned"


def test_each_token_is_checked_about_once() -> None:
    checked: list[int] = []

    def decode(rows: Sequence[Sequence[int]]) -> list[str]:
        checked.extend(len(row) for row in rows)
        return ["".join(chr(97 + token) for token in row) for row in rows]

    stopper = EarlyStopper(decode, lambda text: "bcde" in text, [None])
    # The marker spans two checks.
    row = RowState(0)
    for step in range(1, 201):
        row.tokens.append({150: 1, 151: 2, 152: 3, 153: 4}.get(step, 0))
        stopper([row], step, last=False)
        assert row.settled == (step >= 156)
    assert max(checked) == TAIL_TOKENS
