"""Several processes measure what one would, and the study does not depend on which of them is done first."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from heretic.ablation.parameters import AblationParameters
from heretic.cli.main import main
from heretic.engine.protocol import Progress
from heretic.evaluation.evaluator import Evaluation
from heretic.search.measurer import EvaluationRequest
from heretic.search.process_pool import simultaneous_seconds, workers
from heretic.study.reader import RecordedStudy
from heretic.study.schema import TrialRecord

PARAMETERS = AblationParameters(direction_scope="per layer", direction_index=1.0, kernels={})


class Plays:
    """Stands for the evaluator: says which process measured, takes its time, and may die once."""

    ahead = 1

    def __init__(self, dies: Path | None = None, fails: bool = False) -> None:
        self._dies = dies
        self._fails = fails

    def measure(
        self, jobs: Sequence[EvaluationRequest], progress: Progress
    ) -> list[tuple[EvaluationRequest, Evaluation]]:
        [job] = jobs
        progress(3)
        time.sleep(0.01 * (job.number % 3))
        if self._dies is not None and job.number == 2:
            try:
                self._dies.touch(exist_ok=False)
                os._exit(9)
            except FileExistsError:
                pass
        if self._fails:
            raise KeyError("a bug")
        return [(job, Evaluation(refusals=job.number, prompts=os.getpid(), kl_divergence=0.1))]


def measured(alone: Plays, count: int, jobs: int = 10) -> tuple[dict[int, Evaluation], int]:
    outcomes: dict[int, Evaluation] = {}
    rows = []
    with workers(count, alone) as measurer:  # type: ignore[arg-type]
        for number in range(jobs):
            measurer.submit(EvaluationRequest(number, PARAMETERS))
        while len(outcomes) < jobs:
            outcomes |= {job.number: each for job, each in measurer.outcomes(rows.append)}  # type: ignore[misc]
    return outcomes, sum(rows)


def test_all_jobs_are_measured_by_several_processes() -> None:
    outcomes, rows = measured(Plays(), 3)
    assert {number: each.refusals for number, each in outcomes.items()} == {n: n for n in range(10)}
    assert 2 <= len({each.prompts for each in outcomes.values()} - {os.getpid()}) <= 3
    assert rows == 30


@pytest.mark.parametrize("count", [2, 3])
def test_a_process_that_dies_leaves_its_job_to_the_others(tmp_path: Path, count: int) -> None:
    outcomes, _ = measured(Plays(dies=tmp_path / "died"), count)
    assert (tmp_path / "died").exists()
    assert sorted(outcomes) == list(range(10))


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(RuntimeError, match="KeyError: 'a bug'"):
        measured(Plays(fails=True), 2)


def test_simultaneous_tasks_are_timed_together() -> None:
    assert 0.1 <= simultaneous_seconds(3, lambda: time.sleep(0.1)) < 1
    assert 0.1 <= simultaneous_seconds(1, lambda: time.sleep(0.1)) < 1
    assert simultaneous_seconds(2, lambda: os._exit(1)) == float("inf")


def study(directory: Path, flags: list[str], model: Path) -> list[TrialRecord]:
    assert main([str(model), *flags, "--study-checkpoint-dir", str(directory)]) == 0
    [journal] = directory.glob("*.jsonl")
    return RecordedStudy(journal).trials


def test_a_study_by_several_processes_is_that_of_one_and_the_same_every_time(
    planted_directory: Path, planted_flags: list[str], tmp_path: Path
) -> None:
    """Where the sampler learns nothing meanwhile, the trials are equal; where it does, they repeat."""
    model = planted_directory / "planted"
    random = [*planted_flags, "--sampler", "random", "--no-stop-dominated"]
    alone, three = (study(tmp_path / f"random{n}", [*random, "--workers", str(n)], model) for n in (1, 3))
    assert len(alone) == 12
    assert three == alone
    first, second = (study(tmp_path / f"tpe{n}", [*planted_flags, "--workers", "3"], model) for n in (1, 2))
    assert first == second


def test_processes_end_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import sys, time\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        "from tests.search.test_process_pool import Plays, workers\n"
        "with workers(2, Plays()) as measurer:\n"
        "    print(*(process.pid for process in measurer._processes.values()), flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        parent.kill()
    deadline = time.monotonic() + 15
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, "a process outlives its parent"
        time.sleep(0.1)
