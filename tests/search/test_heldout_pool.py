"""Held-out candidates measured by several processes have the metrics that one process finds."""

import os

import pytest

from heretic.evaluation.heldout.evaluate import HeldoutEvaluator
from heretic.evaluation.heldout.measurer import SharedForwards
from heretic.search.heldout_pool import ForkedHeldout, heldout_measurer
from heretic.search.parallelism import Parallelism
from tests.support.heldout_toys import assert_equal, broken_request, measured, planted_evaluator, planted_requests


def test_processes_find_what_one_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = planted_evaluator()
    requests = [*planted_requests(evaluator, 4), broken_request(evaluator)]
    baseline, alone, failed, rows = measured(SharedForwards(), evaluator, requests)
    here: list[int] = []
    measure = HeldoutEvaluator.measure

    def counted(self: HeldoutEvaluator, asked: list[object], *rest: object) -> object:
        here.append(len(asked))
        return measure(self, asked, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(HeldoutEvaluator, "measure", counted)
    forked_baseline, forked, forked_failed, forked_rows = measured(ForkedHeldout(3), evaluator, requests)
    # This process measures the baseline alone.
    assert here == [0]
    assert_equal(forked_baseline, baseline)
    assert sorted(forked) == sorted(alone)
    for trial, each in forked.items():
        assert_equal(each, alone[trial])
    assert forked_failed == failed == {99}
    assert forked_rows == rows


def test_one_candidate_is_measured_without_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked"))
    evaluator = planted_evaluator()
    _, found, _, _ = measured(ForkedHeldout(2), evaluator, planted_requests(evaluator, 1))
    assert sorted(found) == [10]


def test_the_search_decides_the_way() -> None:
    assert isinstance(heldout_measurer(Parallelism(2, 1)), ForkedHeldout)
    assert isinstance(heldout_measurer(Parallelism(1, 8)), SharedForwards)
