"""A GGUF file reads as transformers reads it, one tensor at a time."""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Type
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, LlamaForCausalLM

from heretic.errors import ExportError
from heretic.export.formats.merge import edit_from, merge
from heretic.export.readers.base import open_checkpoint
from heretic.export.readers.gguf import GGUFCheckpointReader
from tests.support.families import tiny
from tests.support.tiny_checkpoints import LLAMA_SITES, bytes_of, candidate, directions, logits

TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
QUANTISED = {"attn_q": Type.Q4_1, "attn_k": Type.Q8_0, "ffn_down": Type.Q4_0, "token_embd": Type.Q8_0}


def write_gguf(
    path: Path, matrices: dict[str, Type], others: Type = Type.F32, tied: bool = True, feed_forward: int = 64
) -> None:
    """A llama of the tests' usual size as llama.cpp would store it; `matrices` types by part of the name."""
    model = tiny("llama", tie_word_embeddings=tied, intermediate_size=feed_forward)
    writer = gguf.GGUFWriter(path, "llama")
    add_metadata(writer, feed_forward)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 3)
    for key, tensor in model.state_dict().items():
        if tied and key == "lm_head.weight":
            continue
        name = names.get_name(key, try_suffixes=(".weight",))
        assert name is not None
        usual = others if tensor.dim() == 2 else Type.F32
        kind = next((kind for part, kind in matrices.items() if part in name), usual)
        writer.add_tensor(name, blocks(tensor.numpy(), kind), raw_dtype=kind)
    # llama.cpp stores it for some models; transformers computes it.
    writer.add_tensor("rope_freqs.weight", np.ones(4, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def blocks(weight: np.ndarray, kind: Type) -> np.ndarray:
    """The weight in the blocks of a type; random blocks where the gguf package can't write it."""
    if kind != Type.Q4_K:
        return gguf.quantize(weight.astype(np.float32), kind)
    random = np.random.default_rng(5).integers(0, 256, (*weight.shape[:-1], weight.shape[-1] // 256 * 144), np.uint8)
    # Scale and minimum of a block are half floats: not every bit pattern is a finite one.
    random.reshape(-1, 144)[:, :4] = np.array([0.01, 0.05], np.float16).view(np.uint8)
    return random


def add_metadata(writer: gguf.GGUFWriter, feed_forward: int) -> None:
    writer.add_name("tiny")
    writer.add_block_count(3)
    writer.add_context_length(512)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(feed_forward)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(8)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(96)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list([*(chr(33 + n) for n in range(93)), '!"', "<s>", "</s>"])
    writer.add_token_types([1] * 94 + [3, 3])
    writer.add_token_merges(['! "'])
    writer.add_bos_token_id(94)
    writer.add_eos_token_id(95)
    writer.add_chat_template(TEMPLATE)


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
    merge(reader, tmp_path / "out", LLAMA_SITES, edit_from(candidate(1.0), directions(), {}, "none"))
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
