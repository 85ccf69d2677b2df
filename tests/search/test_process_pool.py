"""Several processes give the metrics of one, and the study does not depend on which of them finishes first."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from heretic.ablation.methods.kernel.parameters import KernelParameters
from heretic.cli import main
from heretic.errors import ModelError, NoMemoryError, UserError
from heretic.evaluation.evaluator import Evaluation
from heretic.search.measurer import EvaluationRequest
from heretic.search.process_pool import simultaneous_seconds, workers
from heretic.study.reader import RecordedStudy
from heretic.study.schema import TrialRecord
from tests.support.measurers import FakeMeasurer, die_while_sending

PARAMETERS = KernelParameters(direction_scope="per layer", direction_index=1.0, kernels={})


def measured(alone: FakeMeasurer, count: int, jobs: int = 10) -> tuple[dict[int, Evaluation], int]:
    outcomes: dict[int, Evaluation] = {}
    rows = []
    with workers(count, alone) as measurer:  # type: ignore[arg-type]
        for number in range(jobs):
            measurer.submit(EvaluationRequest(number, PARAMETERS))
        while len(outcomes) < jobs:
            outcomes |= {job.number: each for job, each in measurer.outcomes(rows.append)}  # type: ignore[misc]
    return outcomes, sum(rows)


def test_all_jobs_are_measured_by_several_processes() -> None:
    outcomes, rows = measured(FakeMeasurer(), 3)
    assert {number: each.metrics["number"].value for number, each in outcomes.items()} == {n: n for n in range(10)}
    assert 2 <= len({each.metrics["process"].value for each in outcomes.values()} - {os.getpid()}) <= 3
    assert rows == 30


@pytest.mark.parametrize("death", [lambda: os._exit(9), die_while_sending])
@pytest.mark.parametrize("count", [2, 3])
def test_a_process_that_dies_leaves_its_job_to_the_others(
    tmp_path: Path, count: int, death: Callable[[], None]
) -> None:
    outcomes, _ = measured(FakeMeasurer(tmp_path / "died", death=death), count)
    assert (tmp_path / "died").exists()
    assert sorted(outcomes) == list(range(10))


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(RuntimeError, match="KeyError: 'a bug'"):
        measured(FakeMeasurer(fails=KeyError("a bug")), 2)


@pytest.mark.parametrize("error", [NoMemoryError("no memory here either"), ModelError("use another dtype")])
def test_an_error_for_the_user_is_one_paragraph(error: UserError) -> None:
    """A process that lacks memory leaves its job to this one, which has the same error."""
    with pytest.raises(ModelError) as raised:
        measured(FakeMeasurer(fails=error), 2)
    assert str(raised.value) == str(error)


def test_processes_that_cannot_be_started_are_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system has no memory for their page tables, or a limit on processes."""
    fork, most = os.fork, [1]

    def refused() -> int:
        most[0] -= 1
        if most[0] < 0:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return fork()

    monkeypatch.setattr(os, "fork", refused)
    outcomes, _ = measured(FakeMeasurer(), 3)
    assert sorted(outcomes) == list(range(10))
    assert os.getpid() not in {each.metrics["process"].value for each in outcomes.values()}
    outcomes, _ = measured(FakeMeasurer(), 3)
    assert {each.metrics["process"].value for each in outcomes.values()} == {os.getpid()}
    assert simultaneous_seconds(2, lambda: None) == float("inf")


def test_simultaneous_tasks_are_timed_together() -> None:
    # A barrier waits for all three processes, so sequential tasks would never end.
    barrier = multiprocessing.get_context("fork").Barrier(3, timeout=60)
    assert 0 < simultaneous_seconds(3, barrier.wait) < float("inf")
    assert 0 < simultaneous_seconds(1, lambda: None) < float("inf")
    assert simultaneous_seconds(2, lambda: os._exit(1)) == float("inf")


def study(directory: Path, flags: list[str], model: Path) -> list[TrialRecord]:
    assert main([str(model), *flags, "--study-checkpoint-dir", str(directory)]) == 0
    [journal] = directory.glob("*.jsonl")
    return RecordedStudy(journal).trials


def test_a_study_by_several_processes_is_that_of_one_and_the_same_every_time(
    planted_directory: Path, planted_flags: list[str], tmp_path: Path
) -> None:
    """Trials are equal while the sampler does not learn; afterwards they are reproducible."""
    model = planted_directory / "planted"
    random = [*planted_flags, "--sampler", "random", "--no-prune-dominated"]
    alone, three = (study(tmp_path / f"random{n}", [*random, "--n-workers", str(n)], model) for n in (1, 3))
    assert len(alone) == 12
    assert three == alone
    first, second = (study(tmp_path / f"tpe{n}", [*planted_flags, "--n-workers", "3"], model) for n in (1, 2))
    assert first == second
