"""Mixtures of experts, hybrids, several streams and multimodal models, by the tool that measures all families."""

import pytest
from family_coverage import check

FAMILIES: dict[str, set[str]] = {
    "mixtral": {"attn.o_proj", "mlp.experts.down_proj"},
    "gpt_oss": {"attn.o_proj", "mlp.experts.down_proj"},
    "llama4_text": {"attn.o_proj", "mlp.experts.down_proj", "mlp.shared_experts.down_proj"},
    "qwen3_5_moe_text": {
        "attn.o_proj",
        "linear_attn.out_proj",
        "mlp.experts.down_proj",
        "mlp.shared_experts.down_proj",
    },
    "granitemoehybrid": {
        "attn.o_proj",
        "mamba.out_proj",
        "mlp.experts.down_proj",
        "mlp.shared_experts.down_proj",
    },
    "lfm2_moe": {"attn.o_proj", "conv.out_proj", "mlp.down_proj", "mlp.experts.down_proj"},
    "gemma3": {"attn.o_proj", "mlp.down_proj"},
    "qwen3_vl": {"attn.o_proj", "mlp.down_proj"},
    "qwen2_5_vl": {"attn.o_proj", "mlp.down_proj"},
    "qwen4_exp_text": {
        "attn.o_proj",
        "linear_attn.out_proj",
        "mlp.experts.down_proj",
        "mlp.shared_experts.down_proj",
    },
    "zaya": {"attn.o_proj", "mlp.experts.down_proj"},
    "bloom": {"attn.o_proj", "mlp.down_proj"},
    "deepseek_v4": {"attn.o_proj", "mlp.experts.down_proj", "mlp.shared_experts.down_proj"},
    "minimax": {"attn.o_proj", "linear_attn.out_proj", "mlp.experts.down_proj"},
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", FAMILIES)
def test_hooked_merged_and_reloaded_models_are_one(family: str) -> None:
    row = check(family, job=False)
    assert (row.outcome, row.reason) == ("works", "")
    assert set(row.components) == FAMILIES[family]
