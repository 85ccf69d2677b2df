"""What commands share."""

import argparse
import ast
import gc
import sys
from pathlib import Path

import pytest

import heretic.cli
from heretic.cli.common import given_study, quick_imports, words_of
from heretic.errors import StudyError

HEAVY = ("commands", "session", "web")


def test_a_directory_of_studies_names_the_only_one(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.jsonl").write_text("")
    given = argparse.Namespace(study=str(tmp_path), study_checkpoint_dir="elsewhere")
    with pytest.raises(StudyError, match="holds 2 of them"):
        given_study(given)


def test_a_list_has_commas() -> None:
    assert words_of(" 1, knee ,") == ["1", "knee"]


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_waits_for_imports_and_is_as_before_after_them(enabled: bool) -> None:
    assert gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        with pytest.raises(ImportError), quick_imports():
            assert not gc.isenabled()
            import heretic.no_such_module  # noqa: F401
        assert gc.isenabled() == enabled
    finally:
        gc.enable()


def test_what_the_first_imports_made_is_no_longer_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    frozen: list[bool] = []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(True))
    with quick_imports():
        pass
    assert not frozen
    monkeypatch.delitem(sys.modules, "torch")
    with quick_imports():
        pass
    assert frozen


def test_commands_import_models_quickly() -> None:
    """Quick imports, since a plain one costs a short command a third of its time."""
    slow = set()
    for path in Path(heretic.cli.__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = [each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)]
        for function in functions:
            for node in function.body:
                if isinstance(node, ast.ImportFrom) and node.level == 2 and node.module.partition(".")[0] in HEAVY:
                    slow.add(f"{path.name}: {node.module}")
    assert (
        slow
        - {
            # They load no model.
            "common.py: session.config_file",
            "doctor.py: commands.doctor",
            "results.py: commands.results",
            "split.py: commands.split",
            "reproduce.py: commands.reproduce",
        }
        == set()
    )
