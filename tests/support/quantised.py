"""Tiny checkpoints in the formats that quantised models are published in, written by hand where no library writes them
on a CPU."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

FP8_BLOCK = 32


def quantise(source: Path, target: Path, method: str) -> None:
    """Writes the checkpoint in `source` (safetensors, one file) quantised into `target`."""
    {"bnb_4bit": _bits_and_bytes, "bnb_8bit": _bits_and_bytes, "fp8": _fp8, "compressed-tensors": _compressed}[method](
        source, target, method
    )


def _bits_and_bytes(source: Path, target: Path, method: str) -> None:
    if method == "bnb_8bit":
        config = BitsAndBytesConfig(load_in_8bit=True)
    else:
        config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.float32, bnb_4bit_quant_type="nf4")
    model = AutoModelForCausalLM.from_pretrained(source, quantization_config=config, dtype=torch.float32)
    model.save_pretrained(target)
    _copy_tokenizer(source, target)


def _fp8(source: Path, target: Path, _: str) -> None:
    """As DeepSeek publishes: float8 values, and the reciprocal of a scale for each square block."""
    tensors: dict[str, Tensor] = {}
    for key, weight in load_file(source / "model.safetensors").items():
        if not _is_linear(key, weight):
            tensors[key] = weight
            continue
        blocks = weight.reshape(weight.shape[0] // FP8_BLOCK, FP8_BLOCK, weight.shape[1] // FP8_BLOCK, FP8_BLOCK)
        scales = blocks.abs().amax(dim=(1, 3)).clamp_min(1e-12) / 448
        tensors[key] = (blocks / scales[:, None, :, None]).reshape(weight.shape).to(torch.float8_e4m3fn)
        tensors[f"{key}_scale_inv"] = scales
    settings = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [FP8_BLOCK, FP8_BLOCK]}
    _write(source, target, tensors, settings | {"modules_to_not_convert": ["lm_head"]})


def _compressed(source: Path, target: Path, _: str) -> None:
    """As llm-compressor publishes 8-bit integers: codes, and one scale for each row."""
    tensors: dict[str, Tensor] = {}
    for key, weight in load_file(source / "model.safetensors").items():
        if not _is_linear(key, weight):
            tensors[key] = weight
            continue
        scales = weight.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / 127
        tensors[key] = (weight / scales).round().to(torch.int8)
        tensors[f"{key}_scale"] = scales
    weights = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"}
    group = {"targets": ["Linear"], "weights": weights, "input_activations": None, "output_activations": None}
    settings = {
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
    }
    _write(source, target, tensors, settings)


def _is_linear(key: str, weight: Tensor) -> bool:
    return weight.dim() == 2 and "embed" not in key and "lm_head" not in key


def _write(source: Path, target: Path, tensors: dict[str, Tensor], quantization: dict[str, Any]) -> None:
    target.mkdir()
    save_file(
        {key: tensor.contiguous() for key, tensor in tensors.items()}, target / "model.safetensors", {"format": "pt"}
    )
    config = json.loads((source / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config | {"quantization_config": quantization}))
    _copy_tokenizer(source, target)


def _copy_tokenizer(source: Path, target: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        if (source / name).exists():
            (target / name).write_bytes((source / name).read_bytes())
