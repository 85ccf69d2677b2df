"""heretic MODEL: its help, and names that are misspelled commands."""

import re
from pathlib import Path

import pytest

from heretic.cli import main
from heretic.cli.registry import VERBS, build_parser
from heretic.cli.search import EXAMPLES, MAIN_OPTIONS
from heretic.config import Settings
from heretic.engine.learning.path import LearningSettings


def brief(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_help_fits_a_screen(capsys: pytest.CaptureFixture[str]) -> None:
    text = brief(capsys, "--help")
    assert len(text.splitlines()) <= 50
    assert max(map(len, text.splitlines())) <= 80
    assert all(re.search(rf"^  {verb} ", text, re.MULTILINE) for verb in VERBS)
    assert all(line in text for line in EXAMPLES)
    assert text.index("commands") < text.index("options, ") < text.index("examples")
    assert brief(capsys, "help") == text


def test_the_options_of_the_help_exist() -> None:
    known = build_parser("")._option_string_actions
    names = {name for text in MAIN_OPTIONS for name in re.findall(r"(?<!\w)-{1,2}[a-z][a-z-]*", text)}
    assert len(names) == len(MAIN_OPTIONS) + 2
    assert names <= set(known)


def test_the_helps_number_of_trials_is_that_of_a_path(capsys: pytest.CaptureFixture[str]) -> None:
    shown = f"({LearningSettings().candidates} learned edits, or {Settings().n_trials})"
    assert shown in brief(capsys, "--help")
    assert f"(default: {shown[1:]}" in " ".join(brief(capsys, "demo", "--help").split())


def test_help_of_a_command_is_asked_for_in_two_ways(capsys: pytest.CaptureFixture[str]) -> None:
    assert brief(capsys, "help", "chat") == brief(capsys, "chat", "--help")


def test_a_misspelled_command_is_not_taken_for_a_model(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in (["resutls"], ["resutls", "checkpoints", "--josn"], ["-n", "3", "resutls"]):
        assert main(arguments) == 2
        assert "did you mean heretic results?" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_model_is_named_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["path/one", "--model", "path/two"]) == 2
    assert "Name it once" in capsys.readouterr().err
