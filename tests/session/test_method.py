"""Which method a run takes by itself."""

from pathlib import Path

import pytest

from heretic.cli import main
from heretic.study.reader import RecordedStudy

AUTO = ["--n-trials", "1", "--heldout-trials", "0"]


def without(flags: list[str], *names: str) -> list[str]:
    """The flags but those of these names, with their values."""
    pairs = zip(flags[::2], flags[1::2], strict=True)
    return [word for pair in pairs if pair[0] not in names for word in pair]


def method_of(directory: Path) -> str:
    [journal] = [path for path in (directory / "checkpoints").glob("*.jsonl") if "." not in path.stem]
    return str(RecordedStudy(journal).record.settings["method"])


@pytest.fixture
def flags(planted_directory: Path, planted_flags: list[str]) -> list[str]:
    return [str(planted_directory / "planted"), *without(planted_flags, "--n-startup-trials", "--n-trials")]


def test_edits_are_learned_of_a_model_that_declines(flags: list[str], tmp_path: Path) -> None:
    assert main([*flags, *AUTO]) == 0
    assert method_of(tmp_path) == "learned"


def test_the_kernel_method_searches_where_too_little_is_declined(
    flags: list[str], planted_directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answered = ["--bad-prompts", str(planted_directory / "good_search.txt")]
    assert main([flags[0], *without(flags[1:], "--bad-prompts"), *answered, *AUTO]) == 0
    assert method_of(tmp_path) == "kernel"
    assert "Method: kernel, since the model declines 0 of" in capsys.readouterr().err


def test_a_study_keeps_its_method(flags: list[str], tmp_path: Path) -> None:
    assert main([*flags, *AUTO, "--method", "kernel"]) == 0
    assert main([*flags, *AUTO, "--n-trials", "2", "--resume", "continue"]) == 0
    assert method_of(tmp_path) == "kernel"
