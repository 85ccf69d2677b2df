"""What can't be written is said before a model is loaded."""

import io
from pathlib import Path

import pytest

from heretic.commands.run import _check_target, run
from heretic.config import Settings
from heretic.errors import ExportError, ModelError
from heretic.ui.flags import FlagChooser
from heretic.ui.plain import PlainReporter


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
        _check_target("some/model", settings)


@pytest.mark.parametrize("settings", [Settings(), Settings(export="none"), Settings(export="merge", output="free")])
def test_others_are_not(settings: Settings) -> None:
    assert _check_target("some/model", settings) == "some/model"


def test_a_missing_package_is_said_before_anything_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    settings = Settings(model="some/model", quantization="bnb_4bit")
    with pytest.raises(ModelError, match=r"bitsandbytes.*pip install"):
        run(settings, FlagChooser(settings, None, "some/model"), PlainReporter(io.StringIO()))
