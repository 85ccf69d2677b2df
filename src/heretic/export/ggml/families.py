"""Families of models that can be converted to GGUF: their architecture in llama.cpp, keys and changes of tensors.

A family is here if transformers can load the file again (the export is measured as written) and llama.cpp computes the
same logits from it (tests/export/ggml/test_converted_file.py).
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gguf
import torch
from gguf import MODEL_ARCH
from torch import Tensor

from ...errors import ExportError

Change = Callable[[Tensor, Any], Tensor]
"""From a stored tensor and the configuration to the tensor in the file."""


def interleaved(weight: Tensor, heads: int) -> Tensor:
    """Rows in the order of llama.cpp's rotary embedding: pairs next to each other, not half a head apart."""
    return (
        weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)
    )


def _queries(weight: Tensor, config: Any) -> Tensor:
    return interleaved(weight, config.num_attention_heads)


def _keys(weight: Tensor, config: Any) -> Tensor:
    return interleaved(weight, config.num_key_value_heads)


def _plus_one(weight: Tensor, config: Any) -> Tensor:
    """These norms are stored as their gain less one."""
    return weight + 1


@dataclass(frozen=True, slots=True)
class Family:
    """An architecture of llama.cpp. `changes` are by pattern of the tensor's name in the file; `keys` writes the keys
    that only this architecture needs."""

    architecture: MODEL_ARCH
    changes: Mapping[str, Change] = field(default_factory=dict)
    keys: Callable[[gguf.GGUFWriter, Any], None] = lambda writer, config: None
    even_heads: bool = False
    """Whether llama.cpp computes the size of a head from the width, and reads none."""

    def changed(self, name: str, tensor: Tensor, config: Any) -> Tensor:
        """The tensor `name` as it is stored in the file."""
        for pattern, change in self.changes.items():
            if re.search(pattern, name):
                return change(tensor, config)
        return tensor


def _llama_keys(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_rope_dimension_count(_head_size(config))


def _phi3_keys(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_rope_dimension_count(int(_head_size(config) * float(_rope(config).get("partial_rotary_factor", 1.0))))
    writer.add_rope_scaling_orig_ctx_len(config.original_max_position_embeddings)
    writer.add_sliding_window(config.sliding_window or 0)


def _gemma2_keys(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
    writer.add_final_logit_softcapping(config.final_logit_softcapping)
    writer.add_sliding_window(config.sliding_window)


def _gemma3_keys(writer: gguf.GGUFWriter, config: Any) -> None:
    if config.final_logit_softcapping or config.attn_logit_softcapping:
        raise ExportError("Gemma 3 with capped logits can't be converted to GGUF: write the merged model")
    writer.add_sliding_window(config.sliding_window)


def _qwen3_moe_keys(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_expert_count(config.num_experts)
    writer.add_expert_used_count(config.num_experts_per_tok)
    writer.add_expert_feed_forward_length(config.moe_intermediate_size)


_PERMUTED: Mapping[str, Change] = {r"attn_q\.": _queries, r"attn_k\.": _keys}
_GAINS: Mapping[str, Change] = {r"norm\.weight": _plus_one}

FAMILIES: Mapping[str, Family] = {
    "llama": Family(MODEL_ARCH.LLAMA, _PERMUTED, _llama_keys),
    "mistral": Family(MODEL_ARCH.LLAMA, _PERMUTED, _llama_keys),
    "qwen2": Family(MODEL_ARCH.QWEN2, even_heads=True),
    "qwen3": Family(MODEL_ARCH.QWEN3),
    "qwen3_moe": Family(MODEL_ARCH.QWEN3MOE, keys=_qwen3_moe_keys),
    "phi3": Family(MODEL_ARCH.PHI3, keys=_phi3_keys, even_heads=True),
    "gemma2": Family(MODEL_ARCH.GEMMA2, _GAINS, _gemma2_keys),
    "gemma3_text": Family(MODEL_ARCH.GEMMA3, _GAINS, _gemma3_keys),
}
"""By transformers' model_type of the text decoder."""


def find_family(config: Any) -> Family:
    """The family of a text decoder's configuration.

    Raises:
        ExportError: it can't be converted to GGUF, or its positions are scaled in a way that can't.
    """
    family = FAMILIES.get(str(config.model_type))
    if family is None:
        raise ExportError(
            f"Expected a model of a family that can be converted to GGUF ({', '.join(FAMILIES)}), got "
            f"{config.model_type}. Write the merged model (--export merge), and convert it with llama.cpp's "
            "convert_hf_to_gguf.py"
        )
    kind = str(_rope(config).get("rope_type", "default"))
    if kind not in ROPES:
        raise ExportError(
            f"Positions scaled by {kind} can't be converted to GGUF ({', '.join(ROPES)} can): write the merged model "
            "(--export merge), and convert it with llama.cpp's convert_hf_to_gguf.py"
        )
    even = config.hidden_size // config.num_attention_heads
    if family.even_heads and _head_size(config) != even:
        raise ExportError(
            f"llama.cpp has heads of {even} features in a {config.model_type} model of {config.hidden_size}, and this "
            f"one has heads of {_head_size(config)}: write the merged model (--export merge)"
        )
    scale = getattr(config, "query_pre_attn_scalar", None)
    if scale is not None and scale != (even if config.num_hidden_layers in BY_WIDTH else _head_size(config)):
        raise ExportError(
            f"llama.cpp scales the attention of a {config.model_type} model of {config.num_hidden_layers} layers by "
            f"the size of a head, and this one has query_pre_attn_scalar = {scale}: write the merged model "
            "(--export merge)"
        )
    return family


BY_WIDTH = (46, 62)
"""Layers of the 27B models of Gemma 2 and 3, whose attention llama.cpp scales by width and number of heads."""

ROPES = ("default", "linear", "yarn", "llama3")


def add_keys(writer: gguf.GGUFWriter, family: Family, config: Any) -> None:
    """The keys of the architecture: sizes, norms, positions."""
    window = getattr(config, "sliding_window", None) if family.architecture == MODEL_ARCH.LLAMA else None
    # llama.cpp runs this architecture with full attention, which is the same for texts that the window holds.
    writer.add_context_length(min(config.max_position_embeddings, window or config.max_position_embeddings))
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_key_length(_head_size(config))
    writer.add_value_length(_head_size(config))
    writer.add_vocab_size(config.vocab_size)
    rope = _rope(config)
    writer.add_rope_freq_base(float(rope.get("rope_theta", 10000.0)))
    if rope.get("rope_type") in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(rope["rope_type"]))
        writer.add_rope_scaling_factor(float(rope["factor"]))
    if rope.get("rope_type") == "yarn":
        writer.add_rope_scaling_orig_ctx_len(int(rope["original_max_position_embeddings"]))
    family.keys(writer, config)


def rope_factors(config: Any) -> Tensor | None:
    """Llama 3's divisors of the rotary frequencies, (head size / 2,), which its files have as a tensor; else None.

    Short waves stay, waves longer than the original context are stretched by the factor, those between in part.
    """
    rope = _rope(config)
    if rope.get("rope_type") != "llama3":
        return None
    size = _head_size(config)
    frequencies = float(rope["rope_theta"]) ** -(torch.arange(0, size, 2, dtype=torch.float64) / size)
    lengths = 2 * math.pi / frequencies
    low, high = float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
    context, factor = float(rope["original_max_position_embeddings"]), float(rope["factor"])
    smooth = ((context / lengths - low) / (high - low)).clamp(0, 1)
    return (1 / ((1 - smooth) / factor + smooth)).float()


def _head_size(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _rope(config: Any) -> Mapping[str, Any]:
    """The parameters of the rotary embedding: of a model with several kinds of layer, those of full attention."""
    rope = getattr(config, "rope_parameters", None) or {}
    found = rope.get("full_attention", rope)
    return found if isinstance(found, Mapping) else {}
