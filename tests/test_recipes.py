"""The recipes of docs/architecture.md, followed: their code runs on the planted model and does what the page says."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from heretic.cli.main import main
from heretic.commands.export import export_trial
from heretic.config import load_settings
from heretic.evaluation.scorers import registry as scorers
from heretic.export.formats import registry as formats
from heretic.study.reader import RecordedStudy
from heretic.ui.plain import PlainReporter
from tests.support.pages import ROOT, fenced


def code(name: str) -> str:
    """The code of a recipe."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    _, _, text = page.partition(f"## Recipe: {name}\n")
    text = text.partition("\n## ")[0]
    return "\n".join(fenced(text, "python"))


def recipe(name: str) -> dict[str, Any]:
    """The names that the code of a recipe defines."""
    names: dict[str, Any] = {"__name__": "recipe"}
    exec(code(name), names)
    return names


def test_a_scorer(
    planted_directory: Path,
    planted_flags: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scorer = recipe("a scorer")["Confidence"]
    monkeypatch.setattr(scorers, "SCORERS", (*scorers.SCORERS, scorer))
    assert main([str(planted_directory / "planted"), *planted_flags, "--heldout-trials", "0"]) == 0
    capsys.readouterr()
    assert main(["results", "--study-checkpoint-dir", str(tmp_path / "checkpoints"), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["baseline"]["metrics"]["confidence"]["direction"] == "maximize"
    assert all(trial["metrics"]["confidence"]["value"] < 0 for trial in shown["front"])


def test_an_export_format(
    short_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    marked = recipe("an export format")["Marked"]
    monkeypatch.setattr(formats, "FORMATS", (*formats.FORMATS, marked()))
    study = RecordedStudy(short_study)
    settings, _ = load_settings({"output": str(tmp_path / "edited")})
    assert export_trial(study, settings.model_copy(update={"export": "marked"}), PlainReporter(sys.stderr)) == 0
    assert "Saved" in capsys.readouterr().err
    assert (tmp_path / "edited" / "NOTE.txt").read_text().startswith("made from")


REGISTER_METHOD = """
import sys
from typing import Annotated, Literal, Union
from pydantic import Discriminator, Tag
from heretic.ablation import parameters
from heretic.ablation.methods import registry

names = {"__name__": "recipe"}
exec(open(sys.argv[1]).read(), names)
registry.METHODS = (*registry.METHODS, names["Deep"]())
parameters.MethodName = Literal[tuple(method.name for method in registry.METHODS)]
tagged = tuple(Annotated[method.parameters, Tag(method.name)] for method in registry.METHODS)
registry.AnyParameters = Annotated[Union[tagged], Discriminator(registry.method_name)]

from heretic.cli.main import main

sys.exit(main(sys.argv[2:]))
"""


def test_a_method(planted_directory: Path, planted_flags: list[str], tmp_path: Path) -> None:
    """In a process of its own, since records and settings are built from the registry when they are imported."""
    (tmp_path / "recipe.py").write_text(code("a method"), encoding="utf-8")

    def heretic(*words: str) -> str:
        command = [sys.executable, "-c", REGISTER_METHOD, str(tmp_path / "recipe.py"), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    heretic(str(planted_directory / "planted"), *planted_flags, "--method", "deep", "--heldout-trials", "0")
    shown = json.loads(heretic("results", "--study-checkpoint-dir", str(tmp_path / "checkpoints"), "--json"))
    front = shown["front"]
    assert {trial["parameters"]["method"] for trial in front} == {"deep"}
    assert min(trial["metrics"]["refusals"]["value"] for trial in front) < shown["baseline"]["refusals"]
