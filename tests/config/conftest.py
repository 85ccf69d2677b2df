"""Each test works in an empty directory, without HERETIC_ variables: only its own values count."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from heretic.config import Settings, load_settings


@pytest.fixture(autouse=True)
def clean_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.upper().startswith("HERETIC_"):
            monkeypatch.delenv(name)


@pytest.fixture
def load_toml(tmp_path: Path) -> Callable[[str], Settings]:
    """Settings from the text of a config.toml, without warnings but those of keys that have no effect yet."""

    def load(text: str) -> Settings:
        (tmp_path / "config.toml").write_text(text, encoding="utf-8")
        settings, warnings = load_settings({})
        assert all("has no effect in this release" in warning for warning in warnings)
        return settings

    return load
