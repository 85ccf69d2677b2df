"""The types of a file's tensors are those that llama-quantize chooses.

The expected ones were read from files that `llama_model_quantize` of llama.cpp 0.5.0 wrote.
"""

import pytest

from heretic.config.types import GgufType
from heretic.export.ggml.file_types import FILE_TYPES, Model, quantised, tensor_type

DENSE = Model(layers=16, grouped=4)


def chosen(file_type: str, name: str, model: Model = DENSE, columns: int = 256) -> str:
    return tensor_type(name, columns, FILE_TYPES[file_type], model).name


def test_every_type_of_the_setting_is_known() -> None:
    assert {"same", *FILE_TYPES} == set(GgufType.__origin__.__args__)


@pytest.mark.parametrize("part", ["attn_v", "ffn_down"])
def test_a_medium_file_has_more_bits_at_both_ends_and_in_every_third_layer(part: str) -> None:
    more = [layer for layer in range(16) if chosen("Q4_K_M", f"blk.{layer}.{part}.weight") == "Q6_K"]
    assert more == [0, 1, 4, 7, 10, 13, 14, 15]
    assert chosen("Q4_K_M", "blk.2.attn_q.weight") == "Q4_K"


@pytest.mark.parametrize(
    ("file_type", "name", "expected"),
    [
        ("Q4_K_S", "blk.3.attn_v.weight", "Q5_K"),
        ("Q4_K_S", "blk.4.attn_v.weight", "Q4_K"),
        ("Q3_K_M", "blk.0.ffn_down.weight", "Q5_K"),
        ("Q3_K_M", "blk.1.ffn_down.weight", "Q4_K"),
        ("Q3_K_L", "blk.9.attn_output.weight", "Q5_K"),
        ("Q2_K", "blk.9.attn_v.weight", "Q4_K"),
        ("IQ4_XS", "blk.1.ffn_down.weight", "Q5_K"),
        ("IQ4_XS", "blk.2.ffn_down.weight", "IQ4_XS"),
        ("IQ3_M", "blk.9.attn_v.weight", "Q4_K"),
        ("Q4_0", "output.weight", "Q6_K"),
        ("Q8_0", "output.weight", "Q8_0"),
        ("F16", "blk.0.ffn_down.weight", "F16"),
    ],
)
def test_rules_of_other_files(file_type: str, name: str, expected: str) -> None:
    assert chosen(file_type, name) == expected


def test_embeddings_that_are_the_output_layer_too_have_its_type() -> None:
    assert chosen("Q4_K_M", "token_embd.weight") == "Q4_K"
    assert chosen("Q4_K_M", "token_embd.weight", Model(layers=16, tied=True)) == "Q6_K"


def test_an_importance_matrix_changes_some_types() -> None:
    weighted = Model(layers=16, grouped=4, importance=True)
    assert chosen("IQ4_XS", "blk.1.ffn_down.weight", weighted) == "IQ4_XS"
    assert chosen("Q4_0", "blk.1.ffn_down.weight", weighted) == "Q4_1"


def test_attention_of_a_mixture_of_eight_has_more_bits() -> None:
    eight = Model(layers=9, grouped=8, experts=8)
    assert [chosen("Q4_K_M", f"blk.3.attn_{part}.weight", eight) for part in ("v", "k", "output", "q")] == [
        *("Q8_0", "Q8_0", "Q5_K", "Q4_K")
    ]
    assert chosen("Q3_K_L", "blk.3.attn_output.weight", eight) == "Q3_K"
    assert chosen("IQ3_M", "blk.8.ffn_down_exps.weight", eight) == "Q4_K"


def test_rows_that_no_block_fits_get_another_type() -> None:
    assert chosen("Q4_K_M", "blk.2.attn_q.weight", columns=576) == "Q5_0"
    assert chosen("IQ4_XS", "blk.2.attn_q.weight", columns=576) == "IQ4_NL"
    assert chosen("Q4_K_M", "output.weight", columns=576) == "Q8_0"
    assert chosen("Q4_K_M", "blk.2.attn_q.weight", columns=40) == "F16"


def test_norms_and_routers_stay_floats() -> None:
    assert quantised("blk.0.ffn_down_exps.weight", 3)
    assert not any(map(quantised, ("output_norm.weight", "blk.0.ffn_gate_inp.weight", "blk.0.attn_q.bias"), (1, 2, 1)))
