"""What commands share."""

import argparse
from pathlib import Path

import pytest

from heretic.cli.common import given_study, words_of
from heretic.errors import StudyError


def test_a_directory_of_studies_names_the_only_one(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.jsonl").write_text("")
    given = argparse.Namespace(study=str(tmp_path), study_checkpoint_dir="elsewhere")
    with pytest.raises(StudyError, match="holds 2 of them"):
        given_study(given)


def test_a_list_has_commas() -> None:
    assert words_of(" 1, knee ,") == ["1", "knee"]
