"""The demo removes and replaces nothing that lies where it writes."""

from pathlib import Path

import pytest

from heretic.cli.demo import TEXTS
from heretic.commands.demo import OUTPUT, _free_output, demo_flags
from heretic.config import Settings
from heretic.engine.learning.path import LearningSettings
from heretic.errors import ExportError


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_given_output_is_never_removed() -> None:
    """Not even one that looks like an export of this program."""
    precious = Path("precious")
    precious.mkdir()
    (precious / "heretic.json").write_text("{}")
    with pytest.raises(ExportError, match="exists already"):
        _free_output(precious)
    assert (precious / "heretic.json").exists()
    assert _free_output(Path("new")) == Path("new")


def test_earlier_demos_stay() -> None:
    assert _free_output(OUTPUT) == _free_output(None) == OUTPUT
    OUTPUT.mkdir(parents=True)
    second = OUTPUT.with_name(OUTPUT.name + "-2")
    assert _free_output(OUTPUT) == second
    second.symlink_to("nowhere")
    assert _free_output(OUTPUT) == OUTPUT.with_name(OUTPUT.name + "-3")


@pytest.mark.parametrize("key", TEXTS)
def test_the_help_has_the_defaults_of_the_demo(key: str) -> None:
    trials = f"{LearningSettings().candidates} learned edits, or {Settings.model_fields['n_trials'].default}"
    assert f"(default: {({'n_trials': trials} | demo_flags())[key]})" in TEXTS[key]
