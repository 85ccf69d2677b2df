"""Damaged and incomplete checkpoints are refused in one paragraph, whatever their readers raise."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fuzz_checkpoints import fuzz
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from heretic.config import Settings
from heretic.errors import ModelError, UserError
from heretic.model.loading.checkpoint import find_checkpoint
from heretic.model.loading.damage import reading
from heretic.model.loading.load import LoadedModel, load_model
from tests.support.gguf_files import write_gguf

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 724744\n"
SETTINGS = Settings(dtypes=["float32"])


@pytest.fixture
def model(planted_directory: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(planted_directory / "planted", tmp_path / "model"))


def load(directory: Path, messages: list[str] | None = None) -> LoadedModel:
    return load_model(find_checkpoint(str(directory)), SETTINGS, [].append if messages is None else messages.append)


def change(directory: Path, weights: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(directory / "model.safetensors")
    weights(tensors)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.filterwarnings("ignore")
def test_random_damage_is_refused_or_loads() -> None:
    """Each kind of file eight times; `python tools/fuzz_checkpoints.py` runs 500."""
    for name, raised in fuzz(56, 3):
        assert raised is None or isinstance(raised, UserError), (name, raised)


@pytest.mark.parametrize("content", [POINTER, b"", b"\x08\0\0\0\0\0\0\0{}"], ids=["pointer", "empty", "header"])
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_weights_that_are_no_weights(model: Path, name: str, content: bytes) -> None:
    (model / "model.safetensors").unlink()
    (model / name).write_bytes(content)
    with pytest.raises(ModelError, match=r"Check that the files are complete|are missing|bytes"):
        load(model)


def test_missing_weights_are_named(model: Path) -> None:
    change(model, lambda weights: weights.pop("model.layers.2.mlp.up_proj.weight"))
    with pytest.raises(ModelError, match=r"1 are missing .*model\.layers\.2\.mlp\.up_proj\.weight.*random"):
        load(model)


def test_unused_tensors_are_listed(model: Path) -> None:
    change(model, lambda weights: weights.update({"extra.weight": torch.ones(2)}))
    messages: list[str] = []
    load(model, messages)
    assert [line for line in messages if "extra.weight" in line and "not used" in line]


def test_an_adapter_next_to_the_weights_is_refused(model: Path) -> None:
    (model / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="adapter"):
        load(model)


def test_a_configuration_far_larger_than_its_weights_takes_no_memory(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"vocab_size": 10**12}))
    with pytest.raises(ModelError, match="bytes"):
        load(model)


def test_a_pad_token_outside_the_embedding_is_replaced(model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(model)
    loaded = load(model)
    assert loaded.tokenizer.pad_token_id == loaded.tokenizer.eos_token_id


def test_a_gguf_file_of_a_vocabulary_alone(tmp_path: Path) -> None:
    write_gguf(tmp_path / "whole.gguf", {})
    (tmp_path / "cut.gguf").write_bytes((tmp_path / "whole.gguf").read_bytes()[:300])
    with pytest.raises(ModelError):
        load_model(find_checkpoint(str(tmp_path / "cut.gguf")), SETTINGS, [].append)


def test_panics_become_a_paragraph_and_interrupts_do_not(tmp_path: Path) -> None:
    class Panic(BaseException):
        """As pyo3's, which derives from no Exception."""

    write_gguf(tmp_path / "model.gguf", {})
    checkpoint = find_checkpoint(str(tmp_path / "model.gguf"))
    with (
        pytest.raises(ModelError, match=r"Panic: index out of range.*Look there"),
        reading("x", checkpoint, "Look there."),
    ):
        raise Panic("index out of range")
    with pytest.raises(KeyboardInterrupt), reading("x", checkpoint, ""):
        raise KeyboardInterrupt
