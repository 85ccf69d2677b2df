"""Checkpoints in common forms: in shards, as .bin only, with a type for each tensor."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from heretic.cli import main
from heretic.model.loading.checkpoint import find_checkpoint


def write_as(kind: str, source: Path, target: Path) -> None:
    """The model in `source` in another form."""
    target.mkdir()
    for path in source.iterdir():
        if path.suffix in (".json", ".jinja"):
            (target / path.name).write_bytes(path.read_bytes())
    tensors = load_file(source / "model.safetensors")
    if kind == "a type for each tensor":
        # As some publish: norms and the output layer finer than the rest.
        tensors = {key: each if "norm" in key or "lm_head" in key else each.bfloat16() for key, each in tensors.items()}
        save_file(tensors, target / "model.safetensors", {"format": "pt"})
    elif kind == "one .bin":
        torch.save(tensors, target / "pytorch_model.bin")
    else:
        suffix, name = (".safetensors", "model") if "safetensors" in kind else (".bin", "pytorch_model")
        keys = sorted(tensors)
        shards = {f"{name}-0000{n + 1}-of-00003{suffix}": keys[n::3] for n in range(3)}
        for file, own in shards.items():
            content = {key: tensors[key] for key in own}
            if suffix == ".bin":
                torch.save(content, target / file)
            else:
                save_file(content, target / file, {"format": "pt"})
        index = {"metadata": {}, "weight_map": {key: file for file, own in shards.items() for key in own}}
        (target / f"{name}{suffix}.index.json").write_text(json.dumps(index))


def all_tensors(directory: Path) -> dict[str, Tensor]:
    """What is stored, whatever the form."""
    found: dict[str, Tensor] = {}
    for path in directory.iterdir():
        if path.suffix == ".safetensors":
            found |= load_file(path)
        elif path.suffix == ".bin":
            found |= torch.load(path, weights_only=True)
    return found


@pytest.mark.parametrize("kind", ["safetensors in shards", "one .bin", ".bin in shards", "a type for each tensor"])
def test_the_job_on_it(kind: str, planted_directory: Path, planted_flags: list[str], tmp_path: Path) -> None:
    write_as(kind, planted_directory / "planted", tmp_path / "base")
    output = tmp_path / "edited"
    flags = ["--n-trials", "3", "--trial", "lowest-refusals", "--output", str(output)]
    if kind == "a type for each tensor":
        # Stored as bfloat16, a merged weight is rounded once more than the search's.
        flags += ["--dtypes", "bfloat16"]
    assert main([str(tmp_path / "base"), *planted_flags, *flags]) == 0
    before, after = all_tensors(tmp_path / "base"), all_tensors(output)
    assert {key: (each.dtype, each.shape) for key, each in after.items()} == {
        key: (each.dtype, each.shape) for key, each in before.items()
    }
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed
    assert all("o_proj" in key or "down_proj" in key for key in changed)
    assert json.loads((output / "heretic.json").read_text())["trial"]["metrics"]["refusals"]["value"] == 0


def test_a_file_that_says_it_is_the_only_part_is_whole(tmp_path: Path) -> None:
    (tmp_path / "model-00001-of-00001.gguf").touch()
    assert find_checkpoint(str(tmp_path)).gguf_file == "model-00001-of-00001.gguf"
