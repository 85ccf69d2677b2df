"""An export is complete or absent, whatever ends the process."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from heretic.errors import ExportError
from heretic.export.directory import check_output, new_directory
from heretic.export.formats.merge import merge
from heretic.export.readers.base import open_checkpoint
from heretic.export.readers.tensors import TensorInfo
from heretic.export.writer import CheckpointWriter
from tests.support.tiny_checkpoints import LLAMA_SITES, saved

# Exports and, after the fifth tensor, says so and waits for a line that never comes.
SLOWED_EXPORT = """
import sys
from pathlib import Path
from heretic.export.formats.merge import merge
from heretic.export.readers.base import open_checkpoint
written = []
def wait(size):
    written.append(size)
    if len(written) == 5:
        print("halfway", flush=True)
        sys.stdin.readline()
merge(open_checkpoint(Path(sys.argv[1])), Path(sys.argv[2]), [], lambda site, weight: None, "20KB", wait)
"""


@pytest.fixture
def halfway(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A child process in the middle of exporting `base` to `out`."""
    saved("llama", tmp_path / "base")
    command = [sys.executable, "-c", SLOWED_EXPORT, str(tmp_path / "base"), str(tmp_path / "out")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "halfway\n"
        yield child
        child.kill()


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def visible(directory: Path) -> list[str]:
    return [name for name in names(directory) if not name.startswith(".")]


def hidden(directory: Path) -> list[str]:
    return [name for name in names(directory) if name.startswith(".")]


def export(tmp_path: Path) -> None:
    merge(open_checkpoint(tmp_path / "base"), tmp_path / "out", LLAMA_SITES, lambda site, weight: None)


def test_a_killed_export_leaves_nothing_that_looks_like_a_model(halfway: subprocess.Popen[str], tmp_path: Path) -> None:
    halfway.send_signal(signal.SIGKILL)
    # Dead, and not yet asked after: as a child of a supervisor that does not care would be.
    os.waitid(os.P_PID, halfway.pid, os.WEXITED | os.WNOWAIT)
    assert visible(tmp_path) == ["base"]
    left = hidden(tmp_path)
    assert left == [f".out.partial-{halfway.pid}"]
    assert list((tmp_path / left[0]).glob("*.safetensors"))
    assert not (tmp_path / left[0] / "config.json").exists()
    export(tmp_path)
    assert visible(tmp_path) == ["base", "out"]
    assert hidden(tmp_path) == []


def test_an_export_that_still_runs_is_left_alone(halfway: subprocess.Popen[str], tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=f"process {halfway.pid} is writing"):
        export(tmp_path)
    assert hidden(tmp_path) == [f".out.partial-{halfway.pid}"]


def test_an_interrupted_export_leaves_nothing(tmp_path: Path) -> None:
    saved("llama", tmp_path / "base")

    def interrupt(written: int) -> None:
        assert hidden(tmp_path) == [f".out.partial-{os.getpid()}"]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge(open_checkpoint(tmp_path / "base"), tmp_path / "out", [], lambda site, weight: None, progress=interrupt)
    assert names(tmp_path) == ["base"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)], capture_output=True)
    if mount.returncode:
        pytest.skip("mounting needs rights that this process lacks")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_disk_that_fills_up_leaves_nothing(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Others may fill the disk after it was measured.
    monkeypatch.setattr("heretic.export.writer.check_space", lambda directory, planned: None)
    infos = [TensorInfo(name, torch.float32, (100_000,)) for name in "abcd"]
    with pytest.raises(ExportError, match="filled up"), new_directory(small_disk / "out") as directory:
        writer = CheckpointWriter(directory, infos)
        for info in infos:
            writer.add(info.key, torch.ones(100_000))
    assert names(small_disk) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_at_the_end_leaves_nothing(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(number, "full")

    monkeypatch.setattr("heretic.files.os.fsync", full)
    with pytest.raises(ExportError, match="filled up"), new_directory(tmp_path / "out") as directory:
        (directory / "config.json").touch()
    assert names(tmp_path) == []


def test_what_was_written_takes_the_name_and_parents_are_made(tmp_path: Path) -> None:
    with new_directory(tmp_path / "a/b/out") as directory:
        (directory / "sub").mkdir()
        (directory / "sub/file").write_text("text")
    assert (tmp_path / "a/b/out/sub/file").read_text() == "text"
    assert names(tmp_path / "a/b") == ["out"]


def test_leftovers_of_other_outputs_are_not_touched(tmp_path: Path) -> None:
    dead = 2**22 + 1  # beyond Linux's largest process number
    for name in (f".out.partial-{dead}", f".out2.partial-{dead}", ".out.partial-x", ".out", str(dead)):
        (tmp_path / name).mkdir()
    with new_directory(tmp_path / "out"):
        pass
    assert hidden(tmp_path) == [".out", ".out.partial-x", f".out2.partial-{dead}"]
    assert visible(tmp_path) == [str(dead), "out"]


def test_a_leftover_is_stale_though_a_younger_process_has_its_number(tmp_path: Path) -> None:
    left = tmp_path / f".out.partial-{os.getpid()}"
    left.mkdir()
    os.utime(left, (0, 0))
    with new_directory(tmp_path / "out") as directory:
        assert names(directory) == []


def test_whatever_is_in_the_way_is_named_up_front(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    check_output(tmp_path / "new/deep")
    for name in ("file", "link", "."):
        with pytest.raises(ExportError, match="exists already"):
            check_output(tmp_path / name)
    with pytest.raises(ExportError, match="is a file"):
        check_output(tmp_path / "file/out")


def test_an_output_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="exists already"), new_directory(tmp_path / "out"):
        (tmp_path / "out").mkdir()
    assert names(tmp_path) == ["out"]
