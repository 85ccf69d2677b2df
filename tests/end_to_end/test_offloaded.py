"""The whole job on a model that is larger than the memory it may take."""

import json
from pathlib import Path

import pytest

from heretic.cli import main


def test_a_model_that_is_left_on_disk_is_searched_and_written(
    planted_directory: Path, planted_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, output = planted_directory / "planted", tmp_path / "edited"
    limit = int(0.6 * (model / "model.safetensors").stat().st_size)
    flags = ["--max-memory", json.dumps({"cpu": limit}), "--n-trials", "4", "--trial", "lowest-refusals"]
    assert main([str(model), *planted_flags, *flags, "--output", str(output)]) == 0
    printed = capsys.readouterr().err
    assert "% of them offloaded" in printed
    assert "copied to the device in every forward pass" in printed
    assert "Searched and written" in printed
    assert json.loads((output / "heretic.json").read_text())["trial"]["metrics"]["refusals"]["value"] == 0
