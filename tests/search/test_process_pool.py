"""Several processes give the metrics of one, and the study does not depend on which of them finishes first."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from heretic.ablation.methods.kernel.parameters import KernelParameters
from heretic.cli import main
from heretic.evaluation.evaluator import Evaluation
from heretic.search import process_pool
from heretic.search.measurer import EvaluationRequest
from heretic.search.process_pool import simultaneous_seconds, workers
from heretic.study.reader import RecordedStudy
from heretic.study.schema import TrialRecord
from tests.support.measurers import FakeMeasurer

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


@pytest.mark.parametrize("count", [2, 3])
def test_a_process_that_dies_leaves_its_job_to_the_others(tmp_path: Path, count: int) -> None:
    outcomes, _ = measured(FakeMeasurer(dies=tmp_path / "died"), count)
    assert (tmp_path / "died").exists()
    assert sorted(outcomes) == list(range(10))


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(RuntimeError, match="KeyError: 'a bug'"):
        measured(FakeMeasurer(fails=True), 2)


def test_simultaneous_tasks_are_timed_together() -> None:
    # A barrier waits for all three processes, so sequential tasks would never end.
    barrier = multiprocessing.get_context("fork").Barrier(3, timeout=60)
    assert 0 < simultaneous_seconds(3, barrier.wait) < float("inf")
    assert 0 < simultaneous_seconds(1, lambda: None) < float("inf")
    assert simultaneous_seconds(2, lambda: os._exit(1)) == float("inf")


def test_ctrl_c_reaches_the_parent_alone() -> None:
    """A terminal sends it to all processes of a group."""
    assert simultaneous_seconds(2, lambda: os.kill(os.getpid(), signal.SIGINT)) < float("inf")


@pytest.mark.parametrize("task", [lambda: workers(2, FakeMeasurer()).__enter__(), lambda: simultaneous_seconds(2, str)])
def test_a_signal_between_two_forks_leaves_no_process(
    task: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def interrupted() -> Iterator[None]:
        yield
        os.kill(os.getpid(), signal.SIGTERM)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(process_pool, "_quiet_forks", interrupted)
    before, others = signal.signal(signal.SIGTERM, interrupt), set(multiprocessing.active_children())
    try:
        with pytest.raises(KeyboardInterrupt):
            task()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert set(multiprocessing.active_children()) <= others


def test_a_signal_that_another_thread_takes_waits_too() -> None:
    """A mask holds it only for its own thread."""
    arrived: list[int] = []
    ended = threading.Event()
    other = threading.Thread(target=ended.wait)
    other.start()
    before = signal.signal(signal.SIGTERM, lambda number, _: arrived.append(number))
    try:
        with process_pool.signals_held():
            os.kill(os.getpid(), signal.SIGTERM)
            ended.wait(0.05)
            inside = list(arrived)
        assert (inside, arrived) == ([], [signal.SIGTERM])
    finally:
        signal.signal(signal.SIGTERM, before)
        ended.set()
        other.join()


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


def test_processes_end_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        "from heretic.search.process_pool import workers\n"
        "from tests.support.measurers import FakeMeasurer\n"
        "with workers(2, FakeMeasurer()) as measurer:\n"
        "    print(*(process.pid for process in measurer._processes.values()), flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        processes = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        assert len(processes) == 2
        parent.kill()
    _, alive = psutil.wait_procs(processes, timeout=15)
    assert alive == []
