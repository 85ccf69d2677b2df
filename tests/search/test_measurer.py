"""The number of candidates is halved when memory runs out, with one warning; each evaluation is logged."""

import logging
from typing import Any

import pytest
import torch

from heretic.errors import CandidateError, ModelError
from heretic.evaluation.evaluator import Evaluation
from heretic.evaluation.pruning.preview import Preview
from heretic.evaluation.scorers.base import Measurement
from heretic.search.measurer import EvaluationRequest, InProcessMeasurer


class Engine:
    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.freed = 0

    def free_buffers(self) -> None:
        self.freed += 1

    def halve_batch_size(self) -> bool:
        self.rows //= 2
        return self.rows > 0


class Evaluator:
    """Has memory for `fitting` candidates, and for one only with at most four rows."""

    def __init__(self, fitting: int, rows: int = 16) -> None:
        self.fitting = fitting
        self.engine = Engine(rows)

    def evaluate(self, edits: list[Any], *_: Any) -> list[Evaluation]:
        if len(edits) > max(1, self.fitting) or (not self.fitting and not 0 < self.engine.rows <= 4):
            raise torch.OutOfMemoryError("no memory")
        return [Evaluation({}) for _ in edits]


def measurer(evaluator: Evaluator, said: list[str]) -> InProcessMeasurer:
    return InProcessMeasurer(evaluator, {}, lambda parameters: parameters, 8, warn=said.append)  # type: ignore


def test_candidates_and_then_rows_are_halved_and_it_is_said_once() -> None:
    for fitting in (3, 0):
        said: list[str] = []
        evaluator = Evaluator(fitting)
        tested = measurer(evaluator, said)
        jobs = [EvaluationRequest(number, None) for number in range(8)]  # type: ignore
        for _ in range(2):
            assert [job.number for job, _ in tested.measure(jobs, lambda _: None)] == list(range(8))
        assert len(said) == 1 and "no memory for 8 candidates" in said[0]
        # From 8 to 4, 2 and, for 0, 1 candidate: each time what is kept for more is freed.
        assert evaluator.engine.freed == (2 if fitting else 3)


def test_a_row_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(ModelError, match="more memory than there is"):
        measurer(Evaluator(0, rows=0), []).measure([EvaluationRequest(0, None)] * 2, lambda _: None)  # type: ignore


OUTCOMES = {
    "complete": Evaluation({"refusals": Measurement(3)}),
    "pruned": Evaluation({"refusals": Measurement(9, censored=True)}),
    "failed": CandidateError("not finite"),
}


class Scripted(Evaluator):
    """One outcome of each kind, and previews."""

    def evaluate(self, edits: list[Any], *_: Any) -> list[Any]:
        return list(OUTCOMES.values())

    def preview(self, edits: list[Any], *_: Any) -> list[Preview]:
        return [Preview({}, {}) for _ in edits]


def test_each_evaluation_is_logged_with_its_kind(caplog: pytest.LogCaptureFixture) -> None:
    tested = measurer(Scripted(3), [])
    with caplog.at_level(logging.DEBUG, logger="heretic.search.measurer"):
        tested.measure([EvaluationRequest(number, None) for number in range(3)], lambda _: None)  # type: ignore
        tested.measure([EvaluationRequest(7, None, preview=True)], lambda _: None)  # type: ignore
    assert [each.__dict__["kind"] for each in caplog.records] == [*OUTCOMES, "preview"]
    assert all(each.__dict__["seconds"] >= 0 for each in caplog.records)
    assert caplog.records[-1].getMessage().startswith("candidate 7: preview, ")
