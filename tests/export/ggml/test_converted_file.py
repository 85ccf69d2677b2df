"""llama.cpp computes from a converted file what transformers computes from the checkpoint."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from llama_cpp_runner import LlamaCpp, find_llama_cpp
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedTokenizerFast

from heretic.config import ModelSettings
from heretic.errors import ExportError
from heretic.export.ggml.converted_file import ConvertedFile
from heretic.export.ggml.families import find_family
from heretic.export.ggml.vocabulary import NAMES, _patterns
from heretic.export.readers.base import open_checkpoint
from heretic.model.loading.checkpoint import find_checkpoint
from heretic.model.loading.load import load_model
from tests.support.families import FAMILIES, tiny
from tests.support.tiny_tokenizers import byte_level, with_pieces

SPLITS = [_patterns()[name] for name in NAMES]
LLAMA3 = dict(
    rope_type="llama3",
    rope_theta=10000.0,
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=64,
)
HEADS = dict(vocab_size=320, hidden_size=64, head_dim=16)
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama tied": ("llama", dict(tie_word_embeddings=True)),
    "llama 3": ("llama", dict(rope_parameters=LLAMA3)),
    "mistral": ("mistral", dict(head_dim=8)),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", dict(tie_word_embeddings=True, head_dim=32)),
    "qwen3_moe": (
        "qwen3_moe",
        dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32, decoder_sparse_step=1),
    ),
    "phi3": ("phi3", {}),
    "gemma2": ("gemma2", dict(query_pre_attn_scalar=16)),
    "gemma3": ("gemma3_text", dict(query_pre_attn_scalar=16)),
}


def converted(directory: Path, family: str, changes: dict[str, Any], wanted: str = "same") -> Any:
    """The model of the family, saved and converted to directory/tiny.gguf."""
    model = tiny(family, **HEADS | changes)
    model.save_pretrained(directory / "base")
    tokenizer = with_pieces() if family.startswith("gemma") else byte_level()
    config = AutoConfig.from_pretrained(directory / "base")
    (directory / "out").mkdir()
    file = ConvertedFile(open_checkpoint(directory / "base"), config, tokenizer, {}, lambda *_: None, wanted)
    file.write(directory / "out/tiny.gguf", lambda _: None)
    return model


@pytest.mark.parametrize("name", SHAPES)
def test_logits_are_the_same(name: str, tmp_path: Path) -> None:
    if find_llama_cpp() is None:
        pytest.skip("xllamacpp is not installed")
    model = converted(tmp_path, *SHAPES[name])
    tokens = torch.randint(3, 300, (1, 40), generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected = model(tokens).logits[0].numpy()
    runner = LlamaCpp(tmp_path / "out/tiny.gguf")
    found = runner.logits(tokens[0].tolist())
    runner.close()
    # llama.cpp multiplies fp32 weights with activations and keys in 16 bits.
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()
    checkpoint = find_checkpoint(str(tmp_path / "out"))
    if name != "mistral":
        checkpoint = replace(checkpoint, configuration=tmp_path / "base")
    loaded = load_model(checkpoint, ModelSettings(dtypes=["float32"]), print)
    with torch.inference_mode():
        again = loaded.model(tokens).logits[0].numpy()
    np.testing.assert_allclose(again, expected, rtol=1e-3, atol=1e-3)


def test_shapes_that_llama_cpp_has_no_key_for_are_refused() -> None:
    for family, changes in (
        ("qwen2", dict(hidden_size=64, head_dim=8)),
        ("gemma2", dict(query_pre_attn_scalar=20)),
    ):
        with pytest.raises(ExportError, match="merged model"):
            find_family(CONFIG_MAPPING[family](**FAMILIES[family] | changes))


@pytest.mark.parametrize("tokenizer", [byte_level(), with_pieces(), *(byte_level(split) for split in SPLITS)])
def test_llama_cpp_splits_texts_alike(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    if find_llama_cpp() is None:
        pytest.skip("xllamacpp is not installed")
    tiny("llama", **HEADS).save_pretrained(tmp_path / "base")
    config = AutoConfig.from_pretrained(tmp_path / "base")
    reader = open_checkpoint(tmp_path / "base")
    ConvertedFile(reader, config, tokenizer, {}, lambda *_: None).write(tmp_path / "tiny.gguf", lambda _: None)
    runner = LlamaCpp(tmp_path / "tiny.gguf")
    for text in ("the thing in there", " Zwölf 1234 (they're)!  \n\nthe", "日本 <s>the</s>"):
        assert runner.tokens(text) == tokenizer(text).input_ids
    runner.close()
