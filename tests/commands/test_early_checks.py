"""An export that can't be written is refused before a model is loaded."""

from pathlib import Path

import pytest

from heretic.commands.early_checks import check_target
from heretic.config import Settings
from heretic.errors import ExportError


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model-heretic").mkdir()
    (tmp_path / "taken").write_text("")


@pytest.mark.parametrize(
    "settings",
    [Settings(export="merge"), Settings(export="adapter"), Settings(output="taken"), Settings(output="taken/below")],
)
def test_an_output_that_is_taken_is_refused_at_once(settings: Settings) -> None:
    with pytest.raises(ExportError):
        check_target("some/model", settings)


@pytest.mark.parametrize("settings", [Settings(), Settings(export="none"), Settings(export="merge", output="free")])
def test_others_are_not(settings: Settings) -> None:
    assert check_target("some/model", settings) == "some/model"
