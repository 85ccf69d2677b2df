"""A random model of Llama's shape in an engine, for benchmarks in which the weights don't matter."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from heretic.ablation.edit import ModelEdit, SiteEdit
from heretic.engine.local import LocalEngine
from heretic.engine.options import EngineOptions, StaticDecode
from heretic.model.chat.format import chat_format
from heretic.model.loading.checkpoint import Checkpoint
from heretic.model.loading.load import LoadedModel
from heretic.model.sites.find import find_sites
from heretic.prompts.prompt import Prompt

LLAMA_8B = {
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 128256,
}
WORDS = 200
TEMPLATE = "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}assistant"


LLAMA_8B = {
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 128256,
}
"""The widths of Llama-3.1-8B, besides its 32 layers of 4096 features."""


@dataclass
class RandomEngine:
    local: LocalEngine

    def random_edits(self, count: int) -> list[ModelEdit]:
        """One random direction a candidate, over the upper half of the layers."""
        device, n_layers = self.local.loaded.device, len(self.local.loaded.layers)
        edits: list[ModelEdit] = []
        for _ in range(count):
            vector = torch.nn.functional.normalize(torch.randn(self.local.loaded.d_model, 1), dim=0).to(device)
            edit = SiteEdit(0.8 * vector, vector)
            edits.append({site.module: edit for site in self.local.sites if site.layer >= n_layers // 2})
        return edits


def random_engine(
    n_layers: int, width: int, batch_size: int, static_decode: StaticDecode = "auto", **more: Any
) -> RandomEngine:
    """An engine with a model of that width; `more` are further fields of its configuration."""
    words = {f"word{number}": number for number in range(WORDS)} | {"user": WORDS, "assistant": WORDS + 1, "[end]": 202}
    tokenizer = Tokenizer(models.WordLevel(words | {"[unknown]": 203}, unk_token="[unknown]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[end]", eos_token="[end]", chat_template=TEMPLATE, padding_side="left"
    )
    shape: dict[str, Any] = {
        "hidden_size": width,
        "intermediate_size": 3 * width,
        "num_hidden_layers": n_layers,
        "num_attention_heads": width // 64,
        "num_key_value_heads": max(1, width // 256),
        "head_dim": 64,
        "vocab_size": 32 * 1024,
        "eos_token_id": 202,
        "pad_token_id": 202,
    }
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.device(device):
        torch.set_default_dtype(torch.bfloat16)
        model = LlamaForCausalLM(LlamaConfig(**(shape | more))).eval().requires_grad_(False)
        torch.set_default_dtype(torch.float32)
    # No response may end: throughput is compared at a fixed length.
    model.lm_head.weight.data[202] = 0
    loaded = LoadedModel(Checkpoint("random", Path()), model, fast, tuple(find_sites(model)))
    chat = chat_format(fast, "none", "random")
    return RandomEngine(LocalEngine(loaded, chat, batch_size, EngineOptions(static_decode=static_decode)))


def random_prompts(count: int, longest: int = 30) -> list[Prompt]:
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(8, longest, (count,), generator=draw).tolist()
    return [
        Prompt(" ".join(f"word{n}" for n in torch.randint(0, WORDS, (length,), generator=draw).tolist()))
        for length in lengths
    ]
