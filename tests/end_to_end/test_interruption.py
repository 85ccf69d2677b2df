"""Killed at any moment, the program loses no finished trial; stopped by Ctrl+C, it ends with the front so far."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from heretic.cli import main


@contextmanager
def started(planted_directory: Path, flags: list[str], *more: str) -> Iterator[subprocess.Popen[str]]:
    """The program on the planted model; gone at the end, however the test ends.

    It begins with SIGINT ignored, as in a background job of a shell script or of a CI.
    """
    command = [sys.executable, "-m", "heretic", str(planted_directory / "planted"), *flags, *more]
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        begun = subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    with begun as process:
        try:
            yield process
        finally:
            process.kill()


def lines_until(process: subprocess.Popen[str], found: str, most: int = 400) -> list[str]:
    """The lines of standard error up to the first that holds `found`."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if found in line or len(lines) > most:
            return lines
    raise AssertionError(f"{found!r} never came: {''.join(lines)}")


def complete_trials(tmp_path: Path) -> dict[int, dict[str, object]]:
    [journal] = [path for path in (tmp_path / "checkpoints").glob("*.jsonl") if "." not in path.stem]
    trials = {}
    for line in journal.read_text().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if "trial" in entry.get("user_attr", {}):
            trials[entry["trial_id"]] = entry["user_attr"]["trial"]
    return trials


def test_sigkill_loses_no_finished_trial(planted_directory: Path, planted_flags: list[str], tmp_path: Path) -> None:
    flags = [*planted_flags, "--n-trials", "400"]
    draw = random.Random(7)
    seen: set[int] = set()
    for round_number in range(3):
        with started(planted_directory, flags) as process:
            lines = lines_until(process, "Trial ")
            if round_number:
                assert any("Resuming" in line and "400 trials" in line for line in lines)
            # Somewhere within a trial, which takes some hundredths of a second here.
            time.sleep(draw.uniform(0.1, 0.5))
            process.send_signal(signal.SIGKILL)
            rest = process.stderr.read() if process.stderr else ""
        shown = {int(text.split()[1].rstrip(":")) for text in [*lines, *rest.splitlines()] if text.startswith("Trial ")}
        recorded = {int(str(trial["number"])) for trial in complete_trials(tmp_path).values()}
        assert seen <= recorded, "a trial of an earlier run was lost"
        assert shown <= recorded, "a trial that the user was shown is lost"
        assert len(recorded) > len(seen)
        seen = recorded


def test_ctrl_c_ends_with_the_front_so_far(
    planted_directory: Path, planted_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with started(planted_directory, [*planted_flags, "--n-trials", "4000"]) as process:
        lines_until(process, "Trial 3")
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read() if process.stderr else ""
        assert process.wait() == 130
    assert "Pareto front" in rest
    assert "heretic results" in rest
    assert "Traceback" not in rest
    [journal] = (tmp_path / "checkpoints").glob("*.jsonl")
    assert main(["results", str(journal), "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)["trials"]
    assert counts["complete"] >= 4
    assert "running" not in counts


def test_a_time_budget_ends_the_search_cleanly(planted_directory: Path, planted_flags: list[str]) -> None:
    with started(planted_directory, [*planted_flags, "--n-trials", "100000"], "--time-budget", "1s") as process:
        output = process.communicate()[1]
        assert process.returncode == 0
    assert "time budget is used up" in output
    assert "Pareto front" in output


def test_a_kill_during_an_export_leaves_nothing_that_looks_like_a_model(
    planted_directory: Path, planted_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "models" / "edited"
    flags = [*planted_flags, "--n-trials", "2", "--export", "merge", "--output", str(output)]
    with started(planted_directory, flags) as process:
        lines_until(process, "Loading the written model")
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not output.exists()
    assert [path for path in output.parent.iterdir() if not path.name.startswith(".")] == []
    status = main([str(planted_directory / "planted"), *flags])
    log = capsys.readouterr().err
    assert status == 0, log
    assert "Resuming" in log
    assert (output / "model.safetensors").exists()
    assert [path.name for path in output.parent.iterdir()] == ["edited"]


def test_two_programs_on_one_study(
    planted_directory: Path, planted_flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with started(planted_directory, [*planted_flags, "--n-trials", "4000"]) as first:
        lines_until(first, "Trial 0")
        assert main([str(planted_directory / "planted"), *planted_flags]) == 2
        message = capsys.readouterr().err
        assert first.poll() is None
    assert "in use by another" in message


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_during_an_export(
    planted_directory: Path, planted_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=False).returncode:
        pytest.skip("this machine lets nobody mount a tmpfs")
    try:
        flags = [*planted_flags, "--n-trials", "2", "--export", "merge", "--output", str(disk / "edited")]
        assert main([str(planted_directory / "planted"), *flags]) == 2
        message = capsys.readouterr().err
        assert "Traceback" not in message
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", disk], check=True)
