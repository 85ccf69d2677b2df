"""Benchmarks and tools load, and share code through their common modules alone."""

import ast
import importlib
import sys
from pathlib import Path

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
