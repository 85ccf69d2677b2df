"""config.default.toml is what the fields say, and is itself a configuration."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from heretic.config import Settings, load_settings, resolve_prompts
from heretic.config.document import document, toml_value

COMMITTED = Path(__file__).parents[2] / "config.default.toml"


def uncommented(text: str) -> str:
    return re.sub(r"(?m)^# (?=\w+ = |\[\w+\]$)", "", text)


def test_the_committed_file_is_current() -> None:
    assert COMMITTED.read_text(encoding="utf-8") == document(), (
        "run python -m heretic.config.document > config.default.toml"
    )


def test_loading_it_gives_the_defaults(load_toml: Callable[[str], Settings]) -> None:
    assert load_toml(document()) == Settings()
    assert load_settings({}) == (Settings(), [])


def test_it_holds_every_key_and_its_examples_are_valid(load_toml: Callable[[str], Settings]) -> None:
    text = uncommented(document())
    assert set(tomllib.loads(text)) == set(Settings.model_fields)
    settings = load_toml(text)
    assert resolve_prompts(settings) == resolve_prompts(Settings(preset="hub"))


def test_every_key_is_described_above_it() -> None:
    folded = re.sub(r"\n# ", " ", document())
    for field in Settings.model_fields.values():
        assert str(field.description) in folded


@pytest.mark.parametrize(
    "value",
    [
        'a "quoted" \\ text',
        "tab\tnewline\n",
        "é∘“”",
        1,
        0.5,
        1e-9,
        True,
        ["a", ["b", 'c"']],
        {"a": 1},
        ["x" * 60, "y" * 60],
    ],
)
def test_values_survive_toml(value: object) -> None:
    assert tomllib.loads(f"value = {toml_value(value)}")["value"] == value
