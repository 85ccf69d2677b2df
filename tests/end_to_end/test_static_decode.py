"""A study whose responses come from captured steps is the study of plain decoding."""

from pathlib import Path
from typing import Any

import pytest

from heretic.cli import main
from heretic.engine.cuda_graphs.runner import CudaGraphRunner
from heretic.study.reader import RecordedStudy
from heretic.study.schema import TrialRecord
from tests.support.op_replay import OpReplay


def study(directory: Path, flags: list[str], model: Path) -> list[TrialRecord]:
    assert main([str(model), *flags, "--study-checkpoint-dir", str(directory), "--heldout-trials", "0"]) == 0
    [journal] = directory.glob("*.jsonl")
    return RecordedStudy(journal).trials


def test_trials_are_equal_with_and_without(
    planted_directory: Path, planted_flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replays: list[int] = []
    replay = CudaGraphRunner.replay

    def counted(self: Any, size: int) -> None:
        replays.append(size)
        replay(self, size)

    monkeypatch.setattr(CudaGraphRunner, "replay", counted)
    monkeypatch.setattr("heretic.engine.local.capturer_for", lambda _: OpReplay())
    # On a CPU on every machine: recorded steps are stood in for there, and real ones have tests of their own.
    flags = [
        *planted_flags,
        "--device-map",
        "cpu",
        "--n-workers",
        "1",
        "--candidates-per-forward",
        "3",
        "--max-response-length",
        "9",
    ]
    plain = study(tmp_path / "plain", [*flags, "--static-decode", "off"], planted_directory / "planted")
    assert not replays
    captured = study(tmp_path / "captured", [*flags, "--static-decode", "on"], planted_directory / "planted")
    assert captured == plain
    assert len(set(replays)) > 1
