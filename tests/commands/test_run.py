"""Messages of a run before it downloads or loads anything."""

import io
from pathlib import Path

import pytest

from heretic.commands.run import run
from heretic.config import Settings
from heretic.errors import ModelError
from heretic.ui.flags import FlagChooser
from heretic.ui.plain import PlainReporter


def test_a_missing_package_is_said_before_anything_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    settings = Settings(model="some/model", quantization="bnb_4bit")
    with pytest.raises(ModelError, match=r"bitsandbytes.*pip install"):
        run(settings, FlagChooser(settings, None, "some/model"), PlainReporter(io.StringIO()))
