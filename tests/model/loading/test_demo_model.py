"""The download of the demo's model where the environment has no pip."""

import sys
import venv
from pathlib import Path

import pytest

from heretic.errors import ModelError
from heretic.model.loading import demo_model
from heretic.model.loading.demo_model import _pip


def test_an_environment_without_pip_takes_that_of_a_new_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo_model, "has_pip", lambda: True)
    assert _pip(tmp_path) == [sys.executable, "-m", "pip"]
    monkeypatch.setattr(demo_model, "has_pip", lambda: False)
    # The environment itself is made, without the seconds that its pip takes.
    monkeypatch.setattr(venv.EnvBuilder, "_setup_pip", lambda *_: None)
    python, *rest = _pip(tmp_path)
    assert Path(python).exists() and tmp_path in Path(python).parents and rest == ["-m", "pip"]


def test_where_none_can_be_made_the_reason_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo_model, "has_pip", lambda: False)
    (tmp_path / "environment").write_text("")
    with pytest.raises(ModelError, match="this environment has none"):
        _pip(tmp_path)
