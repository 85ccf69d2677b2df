"""Tiny random models of many families, built from their configurations."""

from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers.modeling_utils import PreTrainedModel

SMALL: dict[str, Any] = dict(
    vocab_size=96,
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    max_position_embeddings=512,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
)
GATED: dict[str, Any] = SMALL | dict(intermediate_size=48, num_key_value_heads=2, head_dim=8)

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": GATED,
    "mistral": GATED,
    "qwen2": GATED,
    "qwen3": GATED,
    "gemma": GATED,
    "gemma2": GATED,
    "gemma3_text": GATED,
    "olmo2": GATED,
    "phi3": GATED,
    "granite": GATED,
    "glm4": GATED,
    "smollm3": GATED,
    "cohere": GATED,
    "starcoder2": GATED,
    "stablelm": GATED,
    "gpt2": dict(vocab_size=96, n_embd=32, n_layer=3, n_head=4, n_positions=512, bos_token_id=1, eos_token_id=2),
    "gpt_neox": SMALL | dict(intermediate_size=48),
    "phi": SMALL | dict(intermediate_size=48),
    "opt": SMALL | dict(ffn_dim=48, word_embed_proj_dim=32),
    "falcon": dict(SMALL, new_decoder_architecture=True, num_kv_heads=2),
    "bloom": dict(vocab_size=96, hidden_size=32, n_layer=3, n_head=4, bos_token_id=1, eos_token_id=2, pad_token_id=0),
}


def tiny(family: str, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A random model of the family, fp32, in eval mode; weights are large enough for layers to matter."""
    config = CONFIG_MAPPING[family](**(FAMILIES.get(family, GATED) | changes))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2:
                torch.nn.init.normal_(parameter, std=0.2)
            elif "norm" in name and name.endswith("weight"):
                torch.nn.init.normal_(parameter, mean=float(parameter.detach().mean()), std=0.2)
            elif name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()
