"""The card says how to run an export in the programs that people use."""

import pytest

from heretic.export.card import model_card
from heretic.export.formats.registry import find_format
from tests.support.cards import BASE_CARD, TRIAL, parsed, record

RUNNING = {
    "merge": (["config.json", "model.safetensors"], ["AutoModelForCausalLM", "vllm serve", "--gguf-type Q4_K_M"]),
    "adapter": (["adapter_config.json"], ["PeftModel.from_pretrained", "--lora-modules"]),
    "gguf": (
        ["m-heretic.gguf", "mmproj-m.gguf"],
        [
            "llama-server -m m-heretic.gguf --mmproj mmproj-m.gguf",
            "FROM ./m-heretic.gguf",
            "ollama create",
            "lms import",
        ],
    ),
}


@pytest.mark.parametrize("export", RUNNING)
def test_the_commands_that_run_the_export_are_in_the_card(export: str) -> None:
    files, expected = RUNNING[export]
    text = model_card(TRIAL, record(), find_format(export), parsed(BASE_CARD), files=files)
    for part in expected:
        assert part in text
    assert "trust" not in text.split("## Using it")[1].split("\n## ")[0]


def test_code_of_its_own_is_said_in_the_commands() -> None:
    text = model_card(TRIAL, record(), find_format("merge"), parsed(BASE_CARD), files=["modeling_own.py"])
    assert "trust_remote_code=True" in text
    assert "--trust-remote-code" in text


def test_file_names_are_quoted_for_a_shell() -> None:
    text = model_card(TRIAL, record(), find_format("gguf"), parsed(BASE_CARD), files=["my model.gguf"])
    assert "llama-server -m 'my model.gguf'" in text


def test_the_parts_of_a_split_file_are_joined_for_ollama() -> None:
    files = [f"m-heretic-0000{number}-of-00002.gguf" for number in (1, 2)]
    text = model_card(TRIAL, record(), find_format("gguf"), parsed(BASE_CARD), files=files)
    assert "llama-server -m m-heretic-00001-of-00002.gguf" in text
    assert "llama-gguf-split --merge" in text
