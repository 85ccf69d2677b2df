"""The recipes of docs/architecture.md, followed: their code runs on the planted model and does what the page says."""

import sys
from pathlib import Path
from typing import Any

import pytest

from heretic.commands.export import export_trial
from heretic.config import load_settings
from heretic.export.formats import registry
from heretic.study.reader import RecordedStudy
from heretic.ui.plain import PlainReporter
from tests.support.pages import ROOT, fenced


def recipe(name: str) -> dict[str, Any]:
    """The names that the code of a recipe defines."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    _, _, text = page.partition(f"## Recipe: {name}\n")
    text = text.partition("\n## ")[0]
    names: dict[str, Any] = {"__name__": "recipe"}
    exec("\n".join(fenced(text, "python")), names)
    return names


def test_an_export_format(
    short_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    marked = recipe("an export format")["Marked"]
    monkeypatch.setattr(registry, "FORMATS", (*registry.FORMATS, marked()))
    study = RecordedStudy(short_study)
    settings, _ = load_settings({"output": str(tmp_path / "edited")})
    assert export_trial(study, settings.model_copy(update={"export": "marked"}), PlainReporter(sys.stderr)) == 0
    assert "Saved" in capsys.readouterr().err
    assert (tmp_path / "edited" / "NOTE.txt").read_text().startswith("made from")
