"""A GGUF file reads as transformers reads it, one tensor at a time."""

import json
from pathlib import Path

import pytest
import torch
from gguf import GGMLQuantizationType as Type
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, LlamaForCausalLM

from heretic.ablation.methods.tensors import StudyTensors
from heretic.errors import ExportError
from heretic.export.edits import edit_from
from heretic.export.formats.merge import merge
from heretic.export.readers.base import open_checkpoint
from heretic.export.readers.gguf import GGUFCheckpointReader
from tests.support.families import tiny
from tests.support.gguf_files import QUANTISED, TEMPLATE, write_gguf
from tests.support.tiny_checkpoints import LLAMA_SITES, bytes_of, candidate, directions, logits


def loaded(directory: Path) -> LlamaForCausalLM:
    model: LlamaForCausalLM = AutoModelForCausalLM.from_pretrained(
        directory, gguf_file="tiny.gguf", quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    return model


@pytest.mark.parametrize("tied", [True, False])
def test_every_tensor_is_bit_for_bit_what_transformers_loads(tied: bool, tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", QUANTISED, tied=tied)
    reader = open_checkpoint(tmp_path, "tiny.gguf")
    assert isinstance(reader, GGUFCheckpointReader)
    state = loaded(tmp_path).state_dict()
    keys = {info.key for info in reader.tensors()}
    assert set(state) - keys == ({"lm_head.weight"} if tied else set())
    for info in reader.tensors():
        assert info.shape == tuple(state[info.key].shape)
        assert bytes_of(reader.read_exact(info.key)) == bytes_of(state[info.key])
        assert bytes_of(reader.read(info.key)) == bytes_of(state[info.key].to(info.dtype))
    # The test's own file does need the reshaping.
    plain = tiny("llama", intermediate_size=64).state_dict()["model.layers.0.self_attn.q_proj.weight"]
    assert (reader.read_exact("model.layers.0.self_attn.q_proj.weight") - plain).abs().max() > 0.3


@pytest.mark.parametrize(
    ("matrices", "others", "dtype"),
    [
        ({}, Type.F32, torch.float32),
        ({}, Type.F16, torch.float16),
        ({}, Type.BF16, torch.bfloat16),
        (QUANTISED, Type.F16, torch.bfloat16),
    ],
)
def test_the_stored_type_fits_the_file(
    matrices: dict[str, Type], others: Type, dtype: torch.dtype, tmp_path: Path
) -> None:
    write_gguf(tmp_path / "tiny.gguf", matrices, others)
    reader = open_checkpoint(tmp_path, "tiny.gguf")
    assert {info.dtype for info in reader.tensors()} == {dtype}
    assert {reader.read(info.key).dtype for info in reader.tensors()} == {dtype}


def test_the_export_is_a_complete_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    write_gguf(tmp_path / "base/tiny.gguf", {}, Type.F32)
    reader = open_checkpoint(tmp_path / "base", "tiny.gguf")
    merge(reader, tmp_path / "out", LLAMA_SITES, lambda site, weight: None)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(logits(model), logits(loaded(tmp_path / "base")))
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert (config["architectures"], config["dtype"]) == (["LlamaForCausalLM"], "float32")
    assert "quantization_config" not in config
    assert model.generation_config.eos_token_id == 95
    before = AutoTokenizer.from_pretrained(tmp_path / "base", gguf_file="tiny.gguf")
    after = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert after.chat_template == before.chat_template == TEMPLATE
    assert after('Hi!"<s>').input_ids == before('Hi!"<s>').input_ids


def test_an_edit_reaches_the_dequantised_weight(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    write_gguf(tmp_path / "base/tiny.gguf", QUANTISED)
    reader = open_checkpoint(tmp_path / "base", "tiny.gguf")
    merge(reader, tmp_path / "out", LLAMA_SITES, edit_from(candidate(1.0), StudyTensors(directions(), {}), "none"))
    key = "model.layers.2.mlp.down_proj.weight"
    v = directions().vectors[3]
    assert (v @ reader.read(key).float()).norm() > 0.5
    assert (v @ open_checkpoint(tmp_path / "out").read(key).float()).norm() < 2e-2


def test_a_damaged_or_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"gone\.gguf.*not there"):
        open_checkpoint(tmp_path, "gone.gguf")
    (tmp_path / "bad.gguf").write_bytes(b"GGUF but then something else, and not much of it")
    with pytest.raises(ExportError, match=r"bad\.gguf.*download it again"):
        open_checkpoint(tmp_path, "bad.gguf")
    write_gguf(tmp_path / "tiny.gguf", QUANTISED)
    content = (tmp_path / "tiny.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(content[: len(content) // 2])
    with pytest.raises(ExportError, match=r"cut\.gguf.*download it again"):
        open_checkpoint(tmp_path, "cut.gguf")
