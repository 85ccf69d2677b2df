"""A study's file: its name, its repair after a kill, its single writer, and its renaming when a new study begins."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from heretic.errors import StudyError
from heretic.study.journal import SingleWriter, repair, set_aside, study_path, tensors_path

LINES = [json.dumps({"op_code": number, "name": "é" * number}) + "\n" for number in range(4)]
HOLDER = """
import sys
from pathlib import Path
from heretic.study.journal import SingleWriter
writer = SingleWriter(Path(sys.argv[1]))
writer.acquire()
print("held", flush=True)
sys.stdin.read()
writer.release()
"""


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("Qwen/Qwen3-4B-Instruct-2507", "Qwen--Qwen3-4B-Instruct-2507.jsonl"),
        ("./models/my model.v1", "----models--my--model--v1.jsonl"),
        ("a_b-c", "a_b-c.jsonl"),
        ("модель/ключ7", "модель--ключ7.jsonl"),
    ],
)
def test_letters_digits_underscore_and_hyphen_stay_in_the_name(model: str, name: str) -> None:
    assert study_path(Path("checkpoints"), model) == Path("checkpoints") / name


@pytest.mark.parametrize("written", ["m/", "./m", "x/../m", "{here}/m", "link"])
def test_a_model_is_one_study_however_its_path_is_written(
    written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m").mkdir()
    (tmp_path / "x").mkdir()
    (tmp_path / "link").symlink_to("m")
    name = written.format(here=tmp_path)
    assert study_path(Path("checkpoints"), name) == Path("checkpoints/m.jsonl")
    monkeypatch.chdir(tmp_path / "x")
    assert study_path(tmp_path / "checkpoints", "../m").name == "m.jsonl"


def test_a_journal_of_the_path_as_typed_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m").mkdir()
    studies = tmp_path / "checkpoints"
    studies.mkdir()
    assert study_path(studies, "./m").name == "m.jsonl"
    (studies / "----m.jsonl").touch()
    assert study_path(studies, "./m").name == "----m.jsonl"


@pytest.mark.parametrize("letter", ["d", "模"])
def test_long_names_fit_and_stay_apart(letter: str, tmp_path: Path) -> None:
    first, second = (study_path(tmp_path, f"{start}/{letter * 300}/model") for start in "ab")
    assert first != second
    assert first.name.endswith("--model.jsonl")
    (tmp_path / f"{first.stem}.2026-01-01T00-00-00-2.heldout.json.lock").touch()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_gets_a_lock_of_a_file(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, "no locks here")

    monkeypatch.setattr("fcntl.flock", flock)
    path = tmp_path / "m.jsonl"
    with SingleWriter(path), pytest.raises(StudyError, match="in use"):
        SingleWriter(path).acquire()
    with SingleWriter(path):
        pass


def test_names_of_other_letters_do_not_collide(tmp_path: Path) -> None:
    assert study_path(tmp_path, "модель") != study_path(tmp_path, "ключик")


def written(path: Path, content: bytes) -> bytes:
    path.write_bytes(content)
    return content


def test_a_whole_file_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    content = written(path, "".join(LINES).encode())
    assert repair(path) == 0
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", [b"", b'{"a": 1}\r\n{"b": 2}\r\n'])
def test_empty_files_and_other_line_ends_are_whole(tmp_path: Path, content: bytes) -> None:
    written(tmp_path / "m.jsonl", content)
    assert repair(tmp_path / "m.jsonl") == 0
    assert (tmp_path / "m.jsonl").read_bytes() == content


def test_whatever_a_kill_left_of_the_last_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    whole, last = "".join(LINES[:-1]).encode(), LINES[-1].encode()
    for length in range(1, len(last)):
        written(path, whole + last[:length])
        assert repair(path) == length
        assert path.read_bytes() == whole
        assert repair(path) == 0


def test_a_file_of_one_unfinished_line_becomes_empty(tmp_path: Path) -> None:
    written(tmp_path / "m.jsonl", b'{"op_co')
    assert repair(tmp_path / "m.jsonl") == 7
    assert (tmp_path / "m.jsonl").read_bytes() == b""


def test_zeros_at_the_end_as_after_a_power_cut_are_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    written(path, LINES[0].encode() + b"\0" * 100)
    assert repair(path) == 100
    assert path.read_bytes() == LINES[0].encode()


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("damaged", [b"{not json}\n", b"[1, 2]\n", b'"text"\n', b"\xff\xfe\n", b"\n", b'{"a": \n'])
def test_damage_before_the_last_line_is_an_error_that_names_the_line(
    tmp_path: Path, number: int, damaged: bytes
) -> None:
    path = tmp_path / "m.jsonl"
    lines = [line.encode() for line in LINES]
    lines[number - 1] = damaged
    content = written(path, b"".join(lines))
    with pytest.raises(StudyError, match=f"line {number} of 4 is damaged") as caught:
        repair(path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == content


def test_set_aside_keeps_the_journal_and_the_directions(tmp_path: Path) -> None:
    path = study_path(tmp_path, "org/model")
    journal, tensors = written(path, b"journal"), written(tensors_path(path), b"tensors")
    kept = set_aside(path)
    assert not path.exists()
    assert not tensors_path(path).exists()
    assert kept.read_bytes() == journal
    assert tensors_path(kept).read_bytes() == tensors
    assert kept.name.startswith("org--model.")


def test_set_aside_works_without_directions(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    written(path, b"journal")
    assert [set_aside(path)] == list(tmp_path.iterdir())


def test_set_aside_never_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    kept = []
    for number in range(3):
        written(path, b"journal %d" % number)
        written(tensors_path(path), b"tensors %d" % number)
        kept.append(set_aside(path))
    assert len(set(kept)) == 3
    for number, each in enumerate(kept):
        assert each.read_bytes() == b"journal %d" % number
        assert tensors_path(each).read_bytes() == b"tensors %d" % number


def test_set_aside_leaves_directions_whose_journal_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    written(path, b"first")
    written(tensors_path(path), b"directions of the first")
    first = set_aside(path)
    stamp = first.stat()
    first.unlink()
    written(path, b"second")
    written(tensors_path(path), b"directions of the second")
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    second = set_aside(path)
    assert tensors_path(first).read_bytes() == b"directions of the first"
    assert tensors_path(second).read_bytes() == b"directions of the second"


@pytest.fixture
def holder(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds the study m.jsonl."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "m.jsonl")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_study_has_one_writer_at_a_time(tmp_path: Path, holder: "subprocess.Popen[str]") -> None:
    writer = SingleWriter(tmp_path / "m.jsonl")
    with pytest.raises(StudyError, match=r"m\.jsonl is in use by another heretic"):
        writer.acquire()
    holder.communicate()
    writer.acquire()
    writer.release()


def test_a_killed_writer_frees_the_study(tmp_path: Path, holder: "subprocess.Popen[str]") -> None:
    writer = SingleWriter(tmp_path / "m.jsonl")
    with pytest.raises(StudyError, match="in use"):
        writer.acquire()
    holder.send_signal(signal.SIGKILL)
    assert holder.wait() == -signal.SIGKILL
    writer.acquire()
    writer.release()


def test_a_writer_makes_the_directory(tmp_path: Path) -> None:
    writer = SingleWriter(tmp_path / "new" / "m.jsonl")
    writer.acquire()
    writer.release()
    assert (tmp_path / "new").is_dir()
