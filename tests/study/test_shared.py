"""Several runs share one study: in a journal, and in a real PostgreSQL."""

import os
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from heretic.cli import main
from heretic.errors import StudyError
from heretic.study import shared as sharing
from heretic.study.find import find_study
from heretic.study.journal import tensors_path
from heretic.study.reader import RecordedStudy
from heretic.study.sampler import SamplerOptions
from heretic.study.shared import DRIVER, SharedStorage, shown_address, without_secrets
from heretic.study.study import Study
from tests.support.mariadb import mariadb, server
from tests.support.postgres import PASSWORD, binaries, postgres
from tests.support.study_toys import SPACE, measure, record


def joined(
    directory: Path, number: int, begin: bool = False, address: str | None = None
) -> tuple[Study, SharedStorage]:
    """A run's study, in a database or in a journal that all runs share, with a copy of its own."""
    path = directory / f"run{number}" / "model--shared.jsonl"
    storage = SharedStorage(address or str(directory / "study.journal"), "model")
    storage.join(lambda _: None)
    storage.copy_here(path)
    study = Study(path, SPACE, SamplerOptions("random", 0, 5, 16), shared=storage)
    if begin:
        tensors_path(path).write_bytes(bytes(range(256)) * 500)
        study.begin(record())
    return study, storage


def test_two_runs_share_trials_and_draw_others(tmp_path: Path) -> None:
    check_two_runs(tmp_path)


def check_two_runs(directory: Path, address: str | None = None) -> None:
    one, two = (joined(directory, number, number == 1, address)[0] for number in (1, 2))
    assert two.record == one.record == record()
    for study in (one, two, one, two):
        [candidate] = study.ask(1)
        measure(study, candidate)
    assert [trial.number for trial in one.trials] == [0, 1, 2, 3]
    assert one.trials == two.trials
    assert len({trial.parameters.model_dump_json() for trial in one.trials}) == 4
    assert tensors_path(two.path).read_bytes() == tensors_path(one.path).read_bytes()
    one.close()
    two.close()


def test_a_copy_is_read_like_any_study(tmp_path: Path) -> None:
    study, _ = joined(tmp_path, 1, begin=True)
    for candidate in study.ask(3):
        measure(study, candidate)
    found = find_study(str(tmp_path / "study.journal"), tmp_path / "mine")
    assert found.trials == study.trials
    assert found.record == study.record
    assert tensors_path(found.path).exists()


def test_trials_of_a_run_that_is_gone_run_again_and_those_of_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(sharing.time, "monotonic", lambda: now[0])
    (gone, _), (lives, storage), (mine, _) = joined(tmp_path, 1, begin=True), joined(tmp_path, 2), joined(tmp_path, 3)
    [lost], [kept] = gone.ask(1), lives.ask(1)
    assert mine.take_back_running() == 0
    now[0] += 40
    storage._pulse(1)
    assert mine.take_back_running() == 0
    now[0] += 40
    assert mine.take_back_running() == 1
    [again] = mine.ask(1)
    assert again.parameters == lost.parameters
    # The other run takes the same trial back at the same moment: it is there once.
    now[0] += 100
    assert mine.n_waiting() == 0
    measure(lives, kept)
    measure(mine, again)
    assert len(mine.trials) == 2


def test_own_trials_are_taken_back_at_an_interruption(tmp_path: Path) -> None:
    study, _ = joined(tmp_path, 1, begin=True)
    study.ask(2)
    assert study.take_back_running(own=True) == 2
    assert study.n_waiting() == 2


def test_a_run_that_comes_second_waits_for_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "SECONDS_A_LOOK", 0.001)
    first, _ = joined(tmp_path, 1)
    said: list[str] = []

    def begin(text: str) -> None:
        said.append(text)
        tensors_path(first.path).parent.mkdir(exist_ok=True, parents=True)
        tensors_path(first.path).write_bytes(b"directions")
        first.begin(record())

    storage = SharedStorage(str(tmp_path / "study.journal"), "model")
    storage.join(begin)
    assert said == ["Another run begins this study; waiting for its directions and baseline."]
    assert storage.get_file("tensors") == b"directions"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://me:s3cret@host/db", "postgresql://me:***@host/db"),
        ("mysql://me:a:b@c@host:33/db?ssl_key=x", "mysql://me:***@host:33/db"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("/shared/study.journal", "/shared/study.journal"),
    ],
)
def test_a_password_is_not_shown(address: str, shown: str) -> None:
    assert shown_address(address) == shown


@pytest.mark.parametrize("password", ["s3cret", "a:b@c", "a%20b"])
def test_messages_of_a_database_are_shown_without_the_password(password: str) -> None:
    address = f"postgresql://me:{password}@host/db"
    told = without_secrets(f"no {address}: the password {password}, that is {unquote(password)}, is wrong", address)
    assert told == "no postgresql://me:***@host/db: the password ***, that is ***, is wrong"


def test_a_database_that_is_not_there_is_one_paragraph_without_the_password() -> None:
    pytest.importorskip("psycopg", reason="the driver of PostgreSQL is not installed")
    with pytest.raises(StudyError, match=r"storage at postgresql://me:\*\*\*@127.0.0.1:9/db") as caught:
        SharedStorage("postgresql://me:s3cret@127.0.0.1:9/db", "model")
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


@pytest.mark.slow
@pytest.mark.skipif(server() is None, reason="MariaDB is not installed")
def test_two_runs_on_a_real_mariadb(tmp_path: Path) -> None:
    pytest.importorskip("pymysql", reason="the driver of MySQL is not installed")
    with mariadb(free_port()) as address:
        check_two_runs(tmp_path, address)
        found = find_study(address, tmp_path / "mine")
        assert len(found.trials) == 4
        assert tensors_path(found.path).exists()


@pytest.mark.slow
@pytest.mark.skipif(binaries() is None, reason="PostgreSQL is not installed")
def test_two_runs_on_a_real_postgresql_and_what_reads_them(
    planted_directory: Path, planted_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("psycopg", reason="the driver of PostgreSQL is not installed")
    with postgres(free_port()) as address:
        model = str(planted_directory / "planted")
        environment = os.environ | {"HERETIC_STORAGE": address}

        def command(number: int) -> list[str]:
            own = ["--study-checkpoint-dir", str(tmp_path / f"run{number}")]
            return [sys.executable, "-m", "heretic", model, *planted_flags, *own, "--no-order-startup-trials"]

        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        runs = [subprocess.Popen(command(number), env=environment, **pipes) for number in range(2)]
        outputs = [run.communicate()[0] for run in runs]
        assert [run.returncode for run in runs] == [0, 0], outputs
        capsys.readouterr()
        assert main(["results", address, "--study-checkpoint-dir", str(tmp_path / "reader")]) == 0
        shown = capsys.readouterr()
        [journal] = (tmp_path / "reader").glob("*.jsonl")
        study = RecordedStudy(journal)
    by_run = Counter(trial.user_attrs[DRIVER] for trial in study.optuna.get_trials() if trial.state.is_finished())
    # A run may have measured all trials before the other had loaded its model.
    assert 1 <= len(by_run) <= 2 and sum(by_run.values()) == len(study.trials) >= 12
    assert len(study.runs) == 2
    assert "Beginning the study" in outputs[0] + outputs[1]
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert PASSWORD.encode() not in path.read_bytes(), path
    assert PASSWORD not in "".join([*outputs, shown.out, shown.err])


def test_a_storage_whose_tables_another_run_creates_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from sqlalchemy.exc import IntegrityError, OperationalError

    monkeypatch.setattr(sharing, "SECONDS_BETWEEN", 0.0)
    faults: list[Exception] = [IntegrityError("", None, Exception("duplicate key value")) for _ in range(2)]

    def connect() -> str:
        if faults:
            raise faults.pop()
        return "storage"

    assert sharing._database(connect) == "storage"
    faults = [OperationalError("", None, Exception("connection refused"))]
    with pytest.raises(OperationalError):
        sharing._database(connect)
    assert not faults
