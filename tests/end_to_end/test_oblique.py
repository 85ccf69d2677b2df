"""The whole program with the method `oblique`, on the model whose behaviour was planted."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from heretic.cli import main
from tests.support.planted import PLANTED_LAYER, planted_model

SITE = f"method.model.layers.{PLANTED_LAYER}.self_attn.o_proj"


def study_of(tmp_path: Path) -> Path:
    [journal] = (tmp_path / "checkpoints").glob("*.jsonl")
    return journal


def test_the_planted_difference_is_found_removed_and_written(
    planted_directory: Path, planted_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A search that is stopped and continued, its front, an export that measures as searched, and a second report."""
    model, output = str(planted_directory / "planted"), tmp_path / "edited"
    flags = [*planted_flags, "--method", "oblique"]
    assert main([model, *flags, "--n-trials", "6"]) == 0
    assert main([model, *flags, "--resume", "continue", "--trial", "lowest-refusals", "--output", str(output)]) == 0
    table = capsys.readouterr().err
    assert "searched" in table and "written" in table
    _, planted = planted_model()
    kept = load_file(study_of(tmp_path).with_suffix(".safetensors"))
    for difference in kept[f"{SITE}.differences"]:
        assert torch.nn.functional.cosine_similarity(difference, planted, dim=0).abs() > 0.99
    manifest = json.loads((output / "heretic.json").read_text())
    assert manifest["trial"]["parameters"]["method"] == "oblique"
    metrics = manifest["trial"]["metrics"]
    assert metrics["refusals"]["value"] == 0 and metrics["kl_divergence"]["value"] < 0.01
    assert "Method: oblique" in (output / "README.md").read_text()
    adapter = tmp_path / "adapter"
    assert main(["export", str(study_of(tmp_path)), "--export", "adapter", "--output", str(adapter)]) == 0
    assert not json.loads((adapter / "adapter_config.json").read_text())["use_dora"], "an oblique edit is a plain LoRA"
    capsys.readouterr()
    # The trials are compiled and measured again from the files next to the journal.
    assert main(["reproduce", str(study_of(tmp_path)), "--study-checkpoint-dir", str(tmp_path / "again")]) == 0
    assert main([model, *planted_flags, "--resume", "continue"]) == 0, "a study keeps its method"
    assert main([model, *planted_flags, "--method", "kernel", "--resume", "continue"]) == 2
    assert "another method" in capsys.readouterr().err
