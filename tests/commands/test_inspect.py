"""`heretic inspect`: the sites of a model as a table, without a tokenizer or a chat template."""

import json
from pathlib import Path

import pytest
from tiny_models import tiny_model

from heretic.cli import main
from heretic.cli.inspect import ranges
from tests.support.families import tiny


def inspected(tmp_path: Path, family: str, capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    tiny(family).save_pretrained(tmp_path / family)
    assert main(["inspect", str(tmp_path / family), "--dtypes", "float32", *flags]) == 0
    return capsys.readouterr().out


def test_weights_and_configuration_are_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """gemma2 has two post-norms a layer, and there is no tokenizer in the directory."""
    lines = inspected(tmp_path, "gemma2", capsys).splitlines()
    assert "Gemma2ForCausalLM" in lines[0]
    assert "d_model 32, 3 layers (model.layers)" in lines[0]
    rows = [line.split() for line in lines[3:]]
    assert rows[0] == [
        *("0-2", "Gemma2DecoderLayer", "attn.o_proj", "self_attn.o_proj"),
        *("32", "x", "32", "post_attention_layernorm"),
    ]
    assert rows[1] == ["mlp.down_proj", "mlp.down_proj", "32", "x", "48", "post_feedforward_layernorm"]


def test_experts_that_are_chosen_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_model("mixtral").save_pretrained(tmp_path)
    flags = ["inspect", str(tmp_path), "--dtypes", "float32", "--experts", "0-1,3"]
    assert main(flags) == 0
    assert "4 x 32 x 48 (experts 0-1, 3)" in capsys.readouterr().out
    assert main([*flags, "--json"]) == 0
    [kind] = json.loads(capsys.readouterr().out)["kinds"]
    assert [site["chosen"] for site in kind["sites"]] == [None, [0, 1, 3]]


def test_json_holds_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = json.loads(inspected(tmp_path, "gpt2", capsys, "--json"))
    assert (data["version"], data["n_sites"], data["components"]) == (1, 6, ["attn.o_proj", "mlp.down_proj"])
    [kind] = data["kinds"]
    assert kind["layers"] == [0, 1, 2]
    # Its weights are stored (d_in, d_model); the shape shown is (d_model, d_in) all the same.
    assert [(site["shape"], site["transposed"]) for site in kind["sites"]] == [([32, 32], True), ([32, 128], True)]


def test_a_model_that_is_not_there_is_one_paragraph(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(tmp_path / "nowhere")]) == 2
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([0, 1, 2], "0-2"), ([0, 1, 2, 4], "0-2, 4"), ([3, 7, 11], "3-11 by 4"), ([5], "5"), ([1, 3], "1, 3")],
)
def test_ranges(numbers: list[int], text: str) -> None:
    assert ranges(numbers) == text
