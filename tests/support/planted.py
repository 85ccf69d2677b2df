"""A tiny chat model with a planted behaviour.

It answers "sure here <end>" unless its residual stream holds one known direction, and then "sorry cannot <end>". An
attention head of one layer writes that direction at every position after a trigger word. All other weights are small
noise. The stream is turned by a random rotation, so that the direction is no axis.
"""

import random
from pathlib import Path

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = [f"word{i}" for i in range(24)]
TRIGGERS = ["trigger0", "trigger1", "trigger2", "trigger3"]
ANSWERS = ["sure", "here", "sorry", "cannot"]
SPECIAL = ["<pad>", "<end>", "<user>", "<assistant>", "<system>"]
VOCABULARY = [*SPECIAL, *ANSWERS, *WORDS, *TRIGGERS]
ANSWERS_BEHIND = "<assistant>"
NEXT = {"<assistant>": "sure", "sure": "here", "here": "<end>", "sorry": "cannot", "cannot": "<end>"}
TEMPLATE = (
    "{% for m in messages %}{{ '<' + m['role'] + '> ' + m['content'] + ' ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)
D_MODEL, LAYERS, HEAD, PLANTED_LAYER = 64, 6, 16, 3
TRIGGER_AXIS, PLANT_AXIS = 50, 51


def planted_tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="word0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<end>", unk_token="word0", padding_side="left"
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def planted_model(seed: int = 0) -> tuple[LlamaForCausalLM, Tensor]:
    """The model (fp32) and its planted direction, a unit vector (d_model,)."""
    config = LlamaConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=D_MODEL,
        intermediate_size=64,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        head_dim=HEAD,
        max_position_embeddings=128,
        attention_bias=True,
        tie_word_embeddings=False,
        eos_token_id=VOCABULARY.index("<end>"),
        pad_token_id=0,
        bos_token_id=None,
        rope_parameters={"rope_type": "default", "rope_theta": 1e8},
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).eval()
        rotation = torch.linalg.qr(torch.randn(D_MODEL, D_MODEL))[0]
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "norm" not in name:
                    parameter.normal_(std=0.003 if parameter.dim() == 2 else 0.0)
            _plant(model)
            _rotate(model, rotation)
    return model, rotation[PLANT_AXIS]


def _plant(model: LlamaForCausalLM) -> None:
    """The mechanism, on axes: token i's identity on axis i, the trigger on one axis, the behaviour on another."""
    embeddings = model.model.embed_tokens.weight
    embeddings.zero_()
    embeddings[torch.arange(len(VOCABULARY)), torch.arange(len(VOCABULARY))] = 1.0
    for word in TRIGGERS:
        embeddings[VOCABULARY.index(word), TRIGGER_AXIS] = 1.0
    attention = model.model.layers[PLANTED_LAYER].self_attn
    # The slowest of a head's rotary pairs hardly turns over a prompt's length: the match does not depend on distance.
    slow = HEAD // 2 - 1
    attention.q_proj.bias[slow] = 8.0
    attention.k_proj.weight[slow, TRIGGER_AXIS] = 8.0
    attention.v_proj.weight[0, TRIGGER_AXIS] = 1.0
    attention.o_proj.weight[PLANT_AXIS, 0] = 0.15
    head = model.lm_head.weight
    for word, following in NEXT.items():
        head[VOCABULARY.index(following), VOCABULARY.index(word)] = 1.0 if word == ANSWERS_BEHIND else 6.0
    head[VOCABULARY.index("sorry"), PLANT_AXIS] = 2.5


def _rotate(model: LlamaForCausalLM, rotation: Tensor) -> None:
    """The same model in a turned stream: RMS norms without gain commute with a rotation."""
    model.model.embed_tokens.weight.copy_(model.model.embed_tokens.weight @ rotation)
    model.lm_head.weight.copy_(model.lm_head.weight @ rotation)
    for layer in model.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        for reads in (attention.q_proj, attention.k_proj, attention.v_proj, mlp.gate_proj, mlp.up_proj):
            reads.weight.copy_(reads.weight @ rotation)
        for writes in (attention.o_proj, mlp.down_proj):
            writes.weight.copy_(rotation.T @ writes.weight)


def planted_prompts(count: int, bad: bool, seed: int) -> list[str]:
    """Sentences of neutral words; the bad ones hold one trigger word."""
    draw = random.Random(seed)
    prompts = []
    for _ in range(count):
        words = draw.choices(WORDS, k=draw.randint(4, 9))
        if bad:
            words.insert(draw.randrange(len(words) + 1), draw.choice(TRIGGERS))
        prompts.append(" ".join(words))
    return prompts


def write_planted(directory: Path) -> Path:
    """Model, tokenizer and six prompt files in `directory`; returns the model's own directory."""
    model_directory = directory / "planted"
    model, _ = planted_model()
    model.save_pretrained(model_directory)
    planted_tokenizer().save_pretrained(model_directory)
    for number, (name, count) in enumerate([("direction", 60), ("search", 24), ("report", 20)]):
        for side in ("good", "bad"):
            prompts = planted_prompts(count, side == "bad", seed=10 * number + (side == "bad"))
            (directory / f"{side}_{name}.txt").write_text("\n".join(prompts) + "\n")
    return model_directory


def search_flags(directory: Path, studies: Path) -> list[str]:
    """Command-line flags for a short run on what `write_planted` wrote to a directory."""
    files = {
        f"--{side}{part}prompts": f"{directory}/{side}_{name}.txt"
        for side in ("good", "bad")
        for part, name in (("-", "direction"), ("-evaluation-", "search"))
    }
    others = {
        "--study-checkpoint-dir": str(studies),
        "--system-prompt": "none",
        "--dtypes": "float32",
        "--batch-size": "64",
        "--max-response-length": "4",
        "--n-trials": "12",
        "--n-startup-trials": "6",
    }
    return [part for flag in (files | others).items() for part in flag]
