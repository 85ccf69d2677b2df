"""Benchmarks and tools load, and share code through their common modules alone."""

import ast
import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.pages import ROOT

BENCHMARKS = sorted((ROOT / "benchmarks").glob("*.py"))
TOOLS = sorted((ROOT / "tools").glob("*.py"))
SHARED = {"common", "gpu_program", "learned_figures", "random_model"}


@pytest.mark.parametrize("path", [*BENCHMARKS, *TOOLS], ids=lambda path: path.stem)
def test_a_script_loads(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(path.parent))
    monkeypatch.delitem(sys.modules, path.stem, raising=False)
    assert importlib.import_module(path.stem).__doc__


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_no_benchmark_imports_another(path: Path) -> None:
    names = {node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)}
    assert names & {each.stem for each in BENCHMARKS} <= SHARED


@pytest.mark.parametrize(
    "name", [path.stem for path in BENCHMARKS if "ArgumentParser(" in path.read_text(encoding="utf-8")]
)
def test_a_benchmark_explains_its_options(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        with_options(name, ["--help"], monkeypatch).main()
    assert ended.value.code == 0
    assert "usage: " in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "options", "shown"),
    [
        ("learned_step", ["--tiny"], "s one forward of its rows without a graph"),
        ("gpu", ["--tiny", "--parts", "candidate"], "s in all"),
    ],
)
def test_a_benchmark_runs_on_a_tiny_shape(
    name: str, options: list[str], shown: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark = with_options(name, options, monkeypatch)
    # As few steps of learning as there must be for a median.
    monkeypatch.setattr(benchmark, "STEPS", 3, raising=False)
    benchmark.main()
    printed = capsys.readouterr().out
    assert shown in printed and "failed" not in printed


def with_options(name: str, options: list[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A benchmark's module, whose `main` reads these options."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setattr(sys, "argv", [name, *options])
    return importlib.import_module(name)
