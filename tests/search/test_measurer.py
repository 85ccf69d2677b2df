"""Candidates are halved when memory runs out, which is said once."""

from typing import Any

import pytest
import torch

from heretic.errors import ModelError
from heretic.evaluation.evaluator import Evaluation
from heretic.search.measurer import EvaluationRequest, InProcessMeasurer


class Engine:
    def __init__(self, rows: int) -> None:
        self.rows = rows

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
        tested = measurer(Evaluator(fitting), said)
        jobs = [EvaluationRequest(number, None) for number in range(8)]  # type: ignore
        for _ in range(2):
            assert [job.number for job, _ in tested.measure(jobs, lambda _: None)] == list(range(8))
        assert len(said) == 1 and "no memory for 8 candidates" in said[0]


def test_a_row_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(ModelError, match="more memory than there is"):
        measurer(Evaluator(0, rows=0), []).measure([EvaluationRequest(0, None)] * 2, lambda _: None)  # type: ignore
