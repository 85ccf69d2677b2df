"""Tiny random models of any family that transformers has, made from its own default configuration.

Every size is made small by its name; lists with an entry a layer keep one layer of each kind. What a family needs
beyond that (sizes that must fit each other) is data: `CHANGES`.
"""

import copy
from typing import Any

import torch
from torch import nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)

WIDTH = 32
VOCABULARY = 96

SIZES: dict[str, int] = dict(
    vocab_size=VOCABULARY,
    unpadded_vocab_size=VOCABULARY,
    hidden_size=WIDTH,
    d_model=WIDTH,
    n_embd=WIDTH,
    embed_dim=WIDTH,
    dim_model=WIDTH,
    word_embed_proj_dim=WIDTH,
    hidden_size_global=WIDTH,
    embedding_size=WIDTH,
    intermediate_size=48,
    ffn_dim=48,
    ffn_hidden_size=48,
    d_ff=48,
    dff=48,
    n_inner=48,
    mlp_dim=48,
    moe_intermediate_size=24,
    num_attention_heads=4,
    num_heads=4,
    n_head=4,
    n_heads=4,
    attention_heads=4,
    num_key_value_heads=2,
    num_kv_heads=2,
    kv_n_heads=2,
    head_dim=8,
    max_position_embeddings=512,
    n_positions=512,
    max_seq_len=512,
    n_ctx=512,
    num_experts=4,
    num_local_experts=4,
    n_routed_experts=4,
    moe_num_experts=4,
    num_experts_per_tok=2,
    num_experts_per_token=2,
    moe_topk=2,
    moe_top_k=2,
    moe_k=2,
    n_shared_experts=1,
    num_shared_experts=1,
    n_group=1,
    num_expert_group=1,
    topk_group=1,
    q_lora_rank=16,
    kv_lora_rank=16,
    qk_rope_head_dim=8,
    qk_nope_head_dim=8,
    qk_head_dim=16,
    v_head_dim=8,
    depth=2,
    image_size=16,
    patch_size=4,
    expert_ffn_hidden_size=24,
    shared_expert_intermediate_size=24,
    shared_experts_intermediate_size=24,
    moe_shared_expert_intermediate_size=24,
    shared_intermediate_size=24,
    dense_intermediate_size=48,
    intermediate_size_mlp=48,
    zero_expert_num=2,
    attention_head_dim=8,
    rotary_dim=4,
    mamba_n_heads=8,
    mamba_d_head=8,
    mamba_num_heads=8,
    mamba_head_dim=8,
    mamba_d_ssm=64,
    mamba_d_state=8,
    mamba_dt_rank=4,
    mamba_chunk_size=8,
    ssm_state_size=8,
    state_size=8,
    time_step_rank=4,
    chunk_size=8,
    n_groups=2,
    linear_num_heads=4,
    linear_head_dim=8,
    linear_num_key_heads=2,
    linear_num_value_heads=4,
    linear_key_head_dim=8,
    linear_value_head_dim=8,
    # So many that no two positions tie at zero, of which padding would then decide.
    index_n_heads=16,
    index_head_dim=16,
    index_topk=4,
    index_block_size=4,
    index_topk_blocks=2,
    hidden_size_per_layer_input=8,
    vocab_size_per_layer_input=VOCABULARY,
    laurel_rank=8,
    lru_width=WIDTH,
    o_lora_rank=8,
    o_groups=2,
    swa_num_attention_heads=4,
    swa_num_key_value_heads=2,
    swa_head_dim=8,
    hc_lowrank=8,
    encoder_layers=2,
    decoder_layers=2,
    encoder_ffn_dim=48,
    decoder_ffn_dim=48,
    encoder_attention_heads=4,
    decoder_attention_heads=4,
    adapter_rank=8,
    out_hidden_size=WIDTH,
    text_hidden_size=WIDTH,
    adapter_in_dim=WIDTH,
    adapter_out_dim=WIDTH,
    adapter_input_size=WIDTH,
    first_k_dense_replace=1,
    projection_dim=WIDTH,
)
# Left out by some defaults, needed by their models.
MISSING: dict[str, int] = dict(num_key_value_heads=2, head_dim=8)


def causal_families() -> list[str]:
    """Every model type that transformers' AutoModelForCausalLM knows."""
    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def image_text_families() -> list[str]:
    """Every further model type that AutoModelForImageTextToText knows."""
    return sorted(set(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES) - set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))


LAYER_COUNTS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "layers", "num_blocks")
FEWEST_LAYERS, MOST_LAYERS = 2, 6

ROPE = {"rope_type": "default", "rope_theta": 10000.0}
# Positions of time, height and width share a head's rotated features.
MULTIMODAL_ROPE = dict(rope_parameters=ROPE | {"mrope_section": [2, 1, 1]})

CHANGES: dict[str, dict[str, Any]] = {
    "bamba": dict(attn_layer_indices=[1]),
    "granitemoehybrid": dict(layer_types=["mamba", "attention"]),
    "jamba": dict(attn_layer_period=2, attn_layer_offset=1),
    "recurrent_gemma": dict(num_hidden_layers=3),
    "mamba2": dict(num_heads=8, head_dim=8),
    "dots1": dict(n_routed_experts=4, num_experts_per_tok=2, n_shared_experts=1),
    "dots3_note_text": dict(per_layer_config={}, num_key_value_heads=4, head_dim=16),
    "lfm2_moe": dict(layer_types=["conv", "full_attention", "conv"], num_hidden_layers=3, num_dense_layers=1),
    "gemma3n_text": dict(
        num_hidden_layers=4,
        num_kv_shared_layers=2,
        layer_types=["sliding_attention", "full_attention"] * 2,
        activation_sparsity_pattern=[0.0] * 4,
        intermediate_size=[48] * 4,
    ),
    "xlstm": dict(embedding_dim=WIDTH, num_blocks=2, num_heads=2, chunk_size=16, ffn_round_up_to_multiple_of=8),
    "zamba2": dict(
        layers_block_type=["mamba", "hybrid", "mamba", "hybrid"],
        num_hidden_layers=4,
        hybrid_layer_ids=[1, 3],
        num_mem_blocks=1,
        mamba_headdim=8,
        n_mamba_heads=8,
        attention_hidden_size=64,
        attention_head_dim=16,
    ),
    "zamba": dict(
        layers_block_type=["mamba", "hybrid", "mamba", "hybrid"],
        num_hidden_layers=4,
        n_mamba_heads=2,
        attention_hidden_size=64,
        attention_head_dim=16,
    ),
    "dbrx": dict(
        attn_config=dict(rope_theta=10000.0, clip_qkv=8.0, kv_n_heads=2),
        ffn_config=dict(ffn_hidden_size=48, moe_num_experts=4, moe_top_k=2),
    ),
    "ministral": dict(head_dim=8),
    "qwen4_exp_text": dict(
        indexer_n_heads=2, indexer_kv_heads=1, indexer_head_dim=8, indexer_budget=4, indexer_compress_ratio=2
    ),
    "gemma4_assistant": dict(
        first=dict(
            text_config=dict(model_type="gemma4_text", hidden_size_per_layer_input=0, vocab_size_per_layer_input=0)
        )
    ),
    "gemma4_text": dict(num_kv_shared_layers=0),
    "xlnet": dict(d_head=8),
    "qwen2_vl_text": MULTIMODAL_ROPE,
    "qwen2_5_vl_text": MULTIMODAL_ROPE,
    "qwen2_5_omni_text": MULTIMODAL_ROPE,
    "glm4v_text": MULTIMODAL_ROPE,
    "glm4v_moe_text": dict(head_dim=16) | MULTIMODAL_ROPE,
    "glm46v_text": MULTIMODAL_ROPE,
    "glm_ocr_text": dict(head_dim=8) | MULTIMODAL_ROPE,
    "glmga_text": dict(head_dim=8) | MULTIMODAL_ROPE,
    "hy_v4_vl_text": MULTIMODAL_ROPE,
    "cosmos3_edge_text": MULTIMODAL_ROPE,
    "deepseek_ocr2_text": dict(mlp_layer_types=["dense", "sparse"], num_experts_per_tok=2),
    # Its bridge has a head for each 64 features.
    "granite4_vision": dict(
        downsample_rate="1/2",
        deepstack_layer_map=[(1, 0)],
        spatial_target_layers=[1],
        vision_config=dict(hidden_size=64),
    ),
    # It counts a layer's attention and its MLP as one each.
    "dory": dict(
        num_hidden_layers=6,
        n_input_layers=2,
        n_recurrent_layers=2,
        n_output_layers=2,
        layer_types=["sliding_attention", "mlp", "sliding_attention", "mlp", "full_attention", "mlp"],
    ),
    "cohere_compass_text": dict(rope_parameters={"full_attention": ROPE, "sliding_attention": ROPE}),
    "step3p5": dict(sliding_window=8, num_sliding_attention_heads=4),
    "hunyuan_vl_text": MULTIMODAL_ROPE,
    "ernie4_5_vl_moe_text": dict(rope_parameters=ROPE | {"mrope_section": [1, 1, 2]}),
    "chameleon": dict(vocabulary_map={"<image>": 5, "IMGIMGAZ": 6}),
    "perception_lm": dict(
        vision_config=dict(
            architecture="vit_pe_core_large_patch14_336",
            model_args=dict(embed_dim=WIDTH, depth=2, num_heads=4, img_size=[28, 28]),
        )
    ),
    "diffusion_gemma_text": dict(num_experts=4, top_k_experts=2, moe_intermediate_size=24),
    "xmod": dict(default_language="en_XX"),
    "paddleocr_vl_text": MULTIMODAL_ROPE,
    "mistral4": dict(head_dim=16, num_key_value_heads=4),
    "deepseek_v2": dict(num_experts_per_tok=2, num_key_value_heads=4, first_k_dense_replace=1),
    "glm5_next_text": dict(index_kpool=2),
    "molmo2_adapter": dict(vision_feature_layer=[1, 0]),
    "reformer": dict(is_decoder=True),
}
"""By model type: values in place of the shrunk ones (a table for a configuration inside: its values)."""


def tiny_config(family: str, **values: Any) -> Any:
    """The family's default configuration with small sizes, and a layer of each kind.

    Raises:
        Exception: whatever the family's configuration raises if sizes don't fit each other.
    """
    kind = CONFIG_MAPPING[family]
    changes = _changes(family)
    default = kind(**changes.get("first", {})).to_dict()
    small = shrink(default)
    merge(small, {key: value for key, value in changes.items() if key != "first"} | values)
    return kind.from_dict(small)


def _changes(kind: str) -> dict[str, Any]:
    # A copy: configurations write into the tables that they are given.
    return copy.deepcopy(CHANGES.get(kind, {}))


def shrink(values: dict[str, Any]) -> dict[str, Any]:
    """A configuration's values with every known size made small, in the configurations inside it too."""
    small = copy.deepcopy(values)
    chosen = _chosen_layers(values)
    for key, value in values.items():
        if isinstance(value, dict) and "model_type" in value:
            small[key] = shrink(value) | _changes(str(value["model_type"]))
        elif key in LAYER_COUNTS and isinstance(value, int):
            small[key] = len(chosen)
        elif isinstance(value, list) and len(value) == _n_layers(values) and len(value) > 1:
            small[key] = [value[index] for index in chosen]
        elif key == "per_layer_config" and isinstance(value, dict):
            small[key] = _chosen_overrides(value, chosen)
        elif isinstance(value, int) and not isinstance(value, bool):
            small[key] = _small(key, value)
        elif value is None and key in MISSING:
            small[key] = MISSING[key]
    if values.get("num_key_value_heads") == values.get("num_attention_heads", 0):
        small["num_key_value_heads"] = small["num_attention_heads"]
    return small


def _small(key: str, value: int) -> int:
    if key in SIZES and value > 0:
        return min(value, SIZES[key])
    named = key.endswith(("_token_id", "_token_index")) or key in ("eos_token_id", "bos_token_id", "pad_token_id")
    if named and value >= VOCABULARY:
        # Apart from each other, and from what tests feed.
        return VOCABULARY - 1 - sum(map(ord, key)) % 20
    return value


def _n_layers(values: dict[str, Any]) -> int:
    counts = [values[key] for key in LAYER_COUNTS if isinstance(values.get(key), int)]
    kinds = values.get("layers_block_type") or values.get("layer_types")
    return counts[0] if counts else len(kinds or ())


def _chosen_layers(values: dict[str, Any]) -> list[int]:
    """Indices of layers so that each kind is there; kinds are told by all lists with an entry a layer."""
    count = _n_layers(values)
    lists = [v for v in values.values() if isinstance(v, list) and len(v) == count and count > 1]
    overrides = values.get("per_layer_config") or {}
    seen: dict[str, int] = {}
    for index in range(count):
        override = next((v for k, v in overrides.items() if int(k) == index), None)
        seen.setdefault(repr([each[index] for each in lists] + [override]), index)
    chosen = sorted(seen.values())[:MOST_LAYERS]
    rest = [index for index in range(count) if index not in chosen]
    return sorted(chosen + rest[: max(0, FEWEST_LAYERS - len(chosen))])


def _chosen_overrides(value: dict[str, Any], chosen: list[int]) -> dict[str, Any]:
    by_index = {int(key): each for key, each in value.items()}
    return {
        str(new): {k: 2 * SIZES[k] if k in SIZES else v for k, v in by_index[old].items()}
        for new, old in enumerate(chosen)
        if old in by_index
    }


def merge(values: dict[str, Any], changes: dict[str, Any]) -> None:
    """Puts `changes` into `values`, table into table."""
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict) and "model_type" in values[key]:
            merge(values[key], value)
        else:
            values[key] = value


def auto_class(family: str) -> Any:
    return AutoModelForCausalLM if family in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES else AutoModelForImageTextToText


def model_class(family: str) -> Any:
    """The class that transformers makes of the family's configuration."""
    return auto_class(family)._model_mapping[CONFIG_MAPPING[family]]


def tiny_model(family: str, seed: int = 0, **values: Any) -> Any:
    """A random model of the family, fp32, in eval mode; weights are large enough for layers to matter."""
    config = tiny_config(family, **values)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = auto_class(family).from_config(config).float()
        randomize(model)
    model.requires_grad_(False)
    return model.eval()


@torch.no_grad()
def randomize(model: nn.Module) -> None:
    """Weights so large that each layer matters; vectors that begin as a constant (norms, biases) get noise."""
    for parameter in model.parameters():
        if not parameter.is_floating_point() or parameter.numel() == 0:
            continue
        if parameter.dim() >= 2:
            nn.init.normal_(parameter, std=0.2)
        elif parameter.numel() > 1 and float(parameter.std()) < 1e-6:
            parameter.add_(0.1 * torch.randn_like(parameter))
