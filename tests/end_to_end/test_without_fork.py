"""The whole program where processes can't fork, as on Windows."""

import multiprocessing
import os
from multiprocessing.context import BaseContext
from pathlib import Path

import pytest

from heretic.cli import main
from heretic.study.reader import RecordedStudy


def test_a_search_with_its_heldout_evaluation_and_export_does_not_fork(
    planted_directory: Path, planted_flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = multiprocessing.get_context

    def spawning(method: str | None = None) -> BaseContext:
        if method in (None, "fork", "forkserver"):
            raise ValueError(f"cannot find context for {method!r}")
        return context(method)

    monkeypatch.setattr(multiprocessing, "get_context", spawning)
    for name in ("fork", "forkpty"):
        monkeypatch.delattr(os, name)
    output = tmp_path / "edited"
    flags = ["--n-trials", "6", "--n-workers", "2", "--trial", "knee", "--export", "merge", "--output", str(output)]
    assert main([str(planted_directory / "planted"), *planted_flags, *flags]) == 0
    [journal] = (tmp_path / "checkpoints").glob("*.jsonl")
    assert len(RecordedStudy(journal).trials) == 6
    assert (output / "model.safetensors").is_file()
