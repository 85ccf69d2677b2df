"""A quantised model: searched as it is, exported from full precision or, on request, after dequantisation."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from heretic.cli import main
from tests.support.quantised import quantise

METHODS = ["bnb_4bit", "bnb_8bit", "fp8", "compressed-tensors"]
NEEDS = {"bnb_4bit": "bitsandbytes", "bnb_8bit": "bitsandbytes", "compressed-tensors": "compressed_tensors"}


@pytest.fixture
def base(request: pytest.FixtureRequest, planted_directory: Path, tmp_path: Path) -> Path:
    method = request.param
    if method in NEEDS and importlib.util.find_spec(NEEDS[method]) is None:
        pytest.skip(f"{NEEDS[method]} is not installed")
    quantise(planted_directory / "planted", tmp_path / method, method)
    return tmp_path / method


def flags_for(output: Path, *more: str) -> list[str]:
    return ["--trial", "lowest-refusals", "--export", "merge", "--output", str(output), "--n-trials", "4", *more]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("base", ["bnb_4bit"], indirect=True)
def test_it_is_said_before_the_search_that_full_precision_is_needed(
    base: Path, planted_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(base), *planted_flags, *flags_for(tmp_path / "edited")]) == 2
    printed = capsys.readouterr().err
    assert "quantised (bitsandbytes)" in printed
    assert "--full-precision-model dequantize" in printed
    assert not list((tmp_path / "checkpoints").glob("*.jsonl"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("base", METHODS, indirect=True)
def test_the_export_is_made_from_full_precision(
    base: Path, planted_directory: Path, planted_flags: list[str], tmp_path: Path
) -> None:
    original = planted_directory / "planted"
    output = tmp_path / "edited"
    flags = flags_for(output, "--full-precision-model", str(original))
    assert main([str(base), *planted_flags, *flags]) == 0
    before, after = load_file(original / "model.safetensors"), load_file(output / "model.safetensors")
    assert {key: (value.dtype, value.shape) for key, value in after.items()} == {
        key: (value.dtype, value.shape) for key, value in before.items()
    }
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed
    assert all("o_proj" in key or "down_proj" in key for key in changed)
    assert "quantization_config" not in json.loads((output / "config.json").read_text())
    assert json.loads((output / "heretic.json").read_text())["trial"]["metrics"]["refusals"]["value"] == 0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("base", METHODS, indirect=True)
def test_its_own_weights_are_dequantised_if_that_is_asked_for(
    base: Path, planted_directory: Path, planted_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "edited"
    flags = flags_for(output, "--full-precision-model", "dequantize")
    assert main([str(base), *planted_flags, *flags]) == 0
    assert "dequantised, edited and written in bfloat16" in capsys.readouterr().err
    before, after = (
        load_file(planted_directory / "planted" / "model.safetensors"),
        load_file(output / "model.safetensors"),
    )
    assert after.keys() == before.keys()
    for key, value in after.items():
        if "down_proj" not in key and "o_proj" not in key:
            assert (value.float() - before[key]).norm() <= 0.15 * before[key].norm()
    config = json.loads((output / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["dtype"] == "bfloat16"
