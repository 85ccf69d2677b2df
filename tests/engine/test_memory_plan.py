"""Memory by arithmetic: what fits on cards of 8 to 80 GB."""

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from heretic.engine.memory_plan import MemoryPlan, ModelShape, plan_memory, shape_of

GIB = 2**30
GB = 10**9
PROMPTS, PROMPT_LENGTH, LENGTH = 100, 50, 100

SHAPES = {
    # (layers, width, feed-forward width, heads, key-value heads, width of a head, vocabulary, tied embeddings)
    "0.5B": (24, 896, 4864, 14, 2, 64, 151936, True),
    "3B": (28, 3072, 8192, 24, 8, 128, 128256, True),
    "8B": (32, 4096, 14336, 32, 8, 128, 128256, False),
    "70B": (80, 8192, 28672, 64, 8, 128, 128256, False),
}


def shape(name: str) -> ModelShape:
    layers, width, feed_forward, heads, kv_heads, head, vocabulary, tied = SHAPES[name]
    config = LlamaConfig(
        num_hidden_layers=layers,
        hidden_size=width,
        intermediate_size=feed_forward,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head,
        vocab_size=vocabulary,
        tie_word_embeddings=tied,
    )
    with torch.device("meta"):
        return shape_of(AutoModelForCausalLM.from_config(config), config)


def plan(name: str, quantization: str = "none") -> MemoryPlan:
    return plan_memory(shape(name), quantization, PROMPT_LENGTH, LENGTH)


def test_bytes_follow_from_the_configuration() -> None:
    llama = plan("8B")
    assert llama.weights == 2 * 8_030_261_248
    # 32 layers, keys and values of 8 heads of 128 numbers, 2 bytes each, 150 positions in buffers of 160.
    assert llama.keys_and_values == 32 * 2 * 8 * 128 * 2 * 160
    assert llama.logits == 128256 * 6
    small = shape("0.5B")
    # Embeddings that are the output layer too count once.
    assert small.embeddings == 151936 * 896


@pytest.mark.parametrize(("candidates", "gib"), [(12, 43.7), (20, 59.6)])
def test_the_plan_is_within_a_tenth_of_the_measured_peak(candidates: int, gib: float) -> None:
    """Llama-3.1-8B's shape on an H100, with 100 prompts a candidate, a quarter of them prefilled at once
    (docs/speed.md, docs/decisions/memory-of-a-gpu.md)."""
    rows = candidates * PROMPTS
    assert abs(plan("8B").peak(rows, rows // 4) / GIB / gib - 1) < 0.1


@pytest.mark.parametrize(
    ("name", "quantization", "fitting"),
    [
        # Candidates a forward on cards of 8, 12, 16, 24, 48 and 80 GB.
        ("0.5B", "none", [11, 18, 25, 32, 32, 32]),
        ("3B", "none", [0, 1, 3, 5, 14, 26]),
        ("8B", "none", [0, 0, 0, 1, 8, 18]),
        ("8B", "bnb_8bit", [0, 0, 1, 3, 11, 20]),
        ("8B", "bnb_4bit", [0, 1, 2, 5, 12, 21]),
        ("70B", "none", [0, 0, 0, 0, 0, 0]),
        ("70B", "bnb_4bit", [0, 0, 0, 0, 0, 3]),
    ],
)
def test_what_fits_on_cards_of_8_to_80_gb(name: str, quantization: str, fitting: list[int]) -> None:
    found = plan(name, quantization)
    assert [found.fitting(size * GB, PROMPTS) for size in (8, 12, 16, 24, 48, 80)] == fitting


def test_what_fits_grows_with_the_card_and_leaves_headroom() -> None:
    found = plan("8B", "bnb_4bit")
    counts = [found.fitting(size * GB, PROMPTS) for size in range(8, 81)]
    assert counts == sorted(counts)
    for size, count in zip(range(8, 81), counts, strict=True):
        assert not count or found.peak(count * PROMPTS, count * PROMPTS) <= 0.85 * size * GB


@pytest.mark.parametrize(("name", "quantization", "size", "rows"), [("3B", "none", 8, 15), ("8B", "bnb_4bit", 8, 22)])
def test_a_small_card_holds_some_rows_at_a_time(name: str, quantization: str, size: int, rows: int) -> None:
    """Fewer than a candidate has prompts: they take turns."""
    found = plan(name, quantization)
    assert found.fitting_rows(size * GB - found.weights, size * GB) == rows
