"""Models that share forwards have the metrics that each has alone."""

from collections.abc import Sequence

import pytest
from torch import Tensor

from heretic.ablation.edit import ModelEdit
from heretic.engine.local import LocalEngine
from heretic.engine.protocol import Progress
from heretic.errors import ModelError
from heretic.evaluation.heldout.measurer import SharedForwards
from heretic.prompts.prompt import Prompt
from tests.support.heldout_toys import assert_equal, broken_request, measured, planted_evaluator, planted_requests


@pytest.mark.parametrize("together", [2, 3, 8])
def test_shared_forwards_give_the_metrics_of_one_model_after_another(together: int) -> None:
    evaluator = planted_evaluator()
    requests = planted_requests(evaluator, 5)
    baseline, alone, _, rows = measured(SharedForwards(), evaluator, requests)
    assert baseline.sets["bad_heldout_prompts"].classes.declined.count == 7
    assert len({each.sets["bad_heldout_prompts"].classes.declined.count for each in alone.values()}) > 1
    shared_baseline, shared, _, shared_rows = measured(SharedForwards(together), evaluator, requests)
    assert_equal(shared_baseline, baseline)
    assert list(shared) == list(alone) == [10, 11, 12, 13, 14]
    for trial, each in shared.items():
        assert_equal(each, alone[trial])
    assert shared_rows == rows == 6 * (9 + 7 + 5)


def test_models_do_share_forwards(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = planted_evaluator()
    shared: list[int] = []
    generate = LocalEngine.generate

    def counted(self: LocalEngine, prompts: Sequence[Prompt], edits: Sequence[ModelEdit], *rest: object) -> object:
        shared.append(len(edits))
        return generate(self, prompts, edits, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(LocalEngine, "generate", counted)
    measured(SharedForwards(4), evaluator, planted_requests(evaluator, 5))
    # The baseline and three candidates, then the other two, on three sets of prompts.
    assert shared == [4, 4, 4, 2, 2, 2]


@pytest.mark.parametrize("together", [1, 4])
def test_a_candidate_without_finite_logits_spoils_no_other(together: int) -> None:
    evaluator = planted_evaluator()
    requests = planted_requests(evaluator, 2)
    _, alone, _, _ = measured(SharedForwards(), evaluator, requests)
    broken = broken_request(evaluator)
    _, found, failed, _ = measured(SharedForwards(together), evaluator, [requests[0], broken, requests[1]])
    assert failed == {99}
    assert sorted(found) == [10, 11]
    for trial, each in found.items():
        assert_equal(each, alone[trial])


@pytest.mark.parametrize("most", [1, 2, 3])
def test_where_memory_does_not_suffice_fewer_models_share(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = planted_evaluator()
    requests = planted_requests(evaluator, 5)
    _, alone, _, _ = measured(SharedForwards(), evaluator, requests)
    whole = LocalEngine.first_token_log_probabilities

    def small(self: LocalEngine, prompts: Sequence[Prompt], edits: Sequence[ModelEdit], progress: Progress) -> Tensor:
        if len(edits) > most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return whole(self, prompts, edits, progress)

    monkeypatch.setattr(LocalEngine, "first_token_log_probabilities", small)
    _, found, _, _ = measured(SharedForwards(8), evaluator, requests)
    assert sorted(found) == sorted(alone)
    for trial, each in found.items():
        assert_equal(each, alone[trial])


def test_not_even_one_row_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = planted_evaluator(batch_size=4)

    def nothing(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(LocalEngine, "generate", nothing)
    with pytest.raises(ModelError, match="even row by row"):
        measured(SharedForwards(3), evaluator, planted_requests(evaluator, 2))
    assert evaluator.engine.batch_size == 1
