"""Bad prompts that the model answers, and good ones that it declines, are left out of the directions."""

from pathlib import Path

import pytest

from heretic.cli import main
from heretic.report.data import Report
from heretic.study.journal import study_path
from heretic.study.reader import RecordedStudy
from tests.support.planted import planted_prompts


def mixed(path: Path, own: bool, count: int, other: int) -> str:
    """`count` prompts of their own kind and `other` of the opposite one, in a file."""
    texts = planted_prompts(count, own, seed=70 + own) + planted_prompts(other, not own, seed=80 + own)
    path.write_text("\n".join(texts) + "\n")
    return str(path)


def flags(planted_directory: Path, planted_flags: list[str], tmp_path: Path, right: int) -> list[str]:
    good = mixed(tmp_path / "good.txt", False, 20, 3)
    bad = mixed(tmp_path / "bad.txt", True, right, 6)
    own = ["--good-prompts", good, "--bad-prompts", bad, "--n-trials", "3", "--filter-direction-prompts"]
    return [str(planted_directory / "planted"), *planted_flags, *own]


def test_directions_are_fitted_to_prompts_that_the_model_treats_as_intended(
    planted_directory: Path, planted_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = flags(planted_directory, planted_flags, tmp_path, 15)
    assert main(given) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "15 of 21 bad prompts that the model declines and the 20 of 23 good ones" in said
    record = RecordedStudy(study_path(tmp_path / "checkpoints", given[0])).record
    assert record.settings["filter_direction_prompts"] is True
    # The record has the indices of these prompts; the others come last in the files.
    assert record.telling == {"good_prompts": tuple(range(20)), "bad_prompts": tuple(range(15))}
    journal = study_path(tmp_path / "checkpoints", given[0])
    assert main(["report", str(journal)]) == 0
    page = " ".join(journal.with_suffix(".report.html").read_text().split())
    assert "the 15 of 21 bad prompts that the baseline declines, and the 20 of 23 good ones" in page
    residuals = Report.model_validate_json(journal.with_suffix(".report.json").read_text()).residuals
    assert residuals is not None and (residuals.n_good, residuals.n_bad) == (20, 15)
    # Without the filter, directions differ, so trials of the two can't be compared.
    assert main([*given, "--no-filter-direction-prompts", "--resume", "continue"]) == 2
    assert "another filter_direction_prompts" in " ".join(capsys.readouterr().err.split())


def test_too_few_such_prompts_are_an_error(
    planted_directory: Path, planted_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(flags(planted_directory, planted_flags, tmp_path, 5)) == 2
    assert "got 5 and" in " ".join(capsys.readouterr().err.split())
