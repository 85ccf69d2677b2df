"""The recipes of docs/architecture.md, followed: their code runs on the planted model and does what the page says."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from heretic.cli.entry import main
from heretic.evaluation.scorers import registry as scorers
from heretic.export.formats import registry as formats
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


def followed(script: str, recipe: Path, words: list[str]) -> str:
    """The standard output of heretic in a process that registers a recipe before settings and records are defined."""
    command = [sys.executable, "-c", script, str(recipe), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=recipe.parent)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_export_format(short_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of `merge`, since the choices of a setting are fixed when settings are defined."""
    marked = recipe("an export format")["Marked"]
    monkeypatch.setattr(marked, "name", "merge")
    monkeypatch.setattr(formats, "FORMATS", (marked(),))
    assert main(["export", str(short_study), "--export", "merge", "--output", str(tmp_path / "edited")]) == 0
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

from heretic.cli.entry import main

sys.exit(main(sys.argv[2:]))
"""


def test_a_method(planted_directory: Path, planted_flags: list[str], tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.py"
    recipe.write_text(code("a method"), encoding="utf-8")
    words = [str(planted_directory / "planted"), *planted_flags, "--method", "deep", "--heldout-trials", "0"]
    followed(REGISTER_METHOD, recipe, words)
    directory = str(tmp_path / "checkpoints")
    shown = json.loads(followed(REGISTER_METHOD, recipe, ["results", "--study-checkpoint-dir", directory, "--json"]))
    front = shown["front"]
    assert {trial["parameters"]["method"] for trial in front} == {"deep"}
    assert min(trial["metrics"]["refusals"]["value"] for trial in front) < shown["baseline"]["refusals"]
