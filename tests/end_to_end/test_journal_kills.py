"""A kill at any moment loses no finished trial, and running trials are repeated.

Only what is in the file outlives a process: a kill leaves some beginning of the journal. All of them are tried, and
then real kills.
"""

import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest

from heretic.study.journal import make_storage
from heretic.study.reader import RecordedStudy, has_record
from heretic.study.schema import TrialRecord
from heretic.study.study import Study
from tests.support.study_toys import open_study, search, values_of

SEARCHER = """
import sys
from pathlib import Path
from tests.support.study_toys import measure, open_study
with open_study(Path(sys.argv[1])) as study:
    print("open", flush=True)
    while True:
        for candidate in study.ask(2):
            print(measure(study, candidate).model_dump_json(), flush=True)
"""
KILLS = 5
PARAMETERS = 10  # of a candidate of two components


def frozen(path: Path) -> list[Any]:
    trials: list[Any] = optuna.load_study(storage=make_storage(path), study_name="heretic").get_trials()
    return trials


def values_by_number(trials: list[TrialRecord]) -> dict[int, tuple[int, float]]:
    return {trial.number: (trial.value("refusals"), trial.value("kl_divergence")) for trial in trials}


def expected_again(path: Path) -> list[dict[str, Any]]:
    """Parameters of trials that were running or waiting, each once; a trial that failed for a reason is done with."""
    again: list[dict[str, Any]] = []
    for trial in frozen(path):
        parameters = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        waits = trial.state.name == "WAITING" or (trial.state.name == "RUNNING" and "failure" not in trial.user_attrs)
        if waits and parameters and parameters not in again:
            again.append(parameters)
    return again


def asked_parameters(study: Study, count: int) -> list[dict[str, Any]]:
    return [candidate.trial.params for candidate in study.ask(count)]


def holds(whole: dict[str, Any], part: dict[str, Any]) -> bool:
    return part.items() <= whole.items()


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """All that can happen to a study: trials reported, failed, interrupted, taken back and run again, twice over."""
    path = tmp_path_factory.mktemp("whole") / "m.jsonl"
    with open_study(path) as study:
        search(study, 2)
        study.fail(study.ask(1)[0], "NaN")
        study.ask(2)
    with open_study(path) as study:
        search(study, 1)
        study.ask(1)
    with open_study(path) as study:
        search(study, 3)
    assert len(study.trials) == 6
    return path.read_bytes()


def beginnings(journal: bytes) -> Iterator[bytes]:
    """The journal up to every line, and now and then into one; of a trial's parameters, the first two and the last."""
    end, parameters = 0, 0
    for line in journal.splitlines(keepends=True):
        parameters = parameters + 1 if b'"param_name"' in line else 0
        if parameters in (0, 1, 2, PARAMETERS):
            if parameters == 1:
                yield journal[: end + len(line) // 2]
            yield journal[: end + len(line)]
        end += len(line)


def test_every_beginning_of_a_journal_can_be_gone_on_with(journal: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    for number, beginning in enumerate(beginnings(journal)):
        path.write_bytes(beginning)
        begun = has_record(path)
        reported = RecordedStudy(path).trials if begun else []
        again = expected_again(path) if begun else []
        failed = [trial.params for trial in frozen(path) if "failure" in trial.user_attrs] if begun else []
        with open_study(path) as study:
            assert study.trials == reported
            assert study.count_by_state().get("running", 0) == 0
            asked = asked_parameters(study, len(again) + 1)
            assert all(any(holds(each, part) for each in asked) for part in again), f"beginning {number}"
            assert not any(holds(asked[-1], part) for part in again if len(part) == PARAMETERS), f"beginning {number}"
            assert not any(part in asked for part in failed), f"beginning {number}"


def test_no_beginning_of_a_journal_counts_a_trial_twice(journal: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    counts = []
    for beginning in beginnings(journal):
        path.write_bytes(beginning)
        with open_study(path) as study:
            counts.append(study.n_finished())
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (0, 7)


def kill_a_search(path: Path, rng: random.Random) -> dict[int, tuple[int, float]]:
    """The trials that a search had reported when it was killed at a random moment."""
    command = [sys.executable, "-c", SEARCHER, str(path)]
    directory = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=directory) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        lines = [process.stdout.readline() for _ in range(rng.randrange(1, 12))]
        for _ in range(rng.randrange(100_000)):  # the search continues meanwhile
            pass
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.read().splitlines(keepends=True)
    assert process.returncode == -signal.SIGKILL
    return values_by_number([TrialRecord.model_validate_json(line) for line in lines if line.endswith("\n")])


def test_no_finished_trial_is_lost_to_kills(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    rng = random.Random(0)
    reported: dict[int, tuple[int, float]] = {}
    for _ in range(KILLS):
        reported |= kill_a_search(path, rng)
        again = expected_again(path)
        with open_study(path) as study:
            found = values_by_number(study.trials)
            assert reported.items() <= found.items()
            assert all(values_of(trial.parameters) == found[trial.number] for trial in study.trials)
            assert study.count_by_state().get("running", 0) == 0
            asked = asked_parameters(study, len(again))
            assert all(any(holds(each, part) for each in asked) for part in again)
    assert len(reported) >= KILLS
    complete = [trial.parameters for trial in RecordedStudy(path).trials]
    assert len({parameters.model_dump_json() for parameters in complete}) == len(complete)
