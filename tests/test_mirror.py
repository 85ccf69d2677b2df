"""The tests mirror the source, share code through tests/support alone, and do not depend on a clock."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent
# Where the module of a test file may be: src/heretic for most, tools/ for tests/tools.
SOURCES = (ROOT / "src" / "heretic", ROOT)

# Tests about the repository as a whole. Tests of the whole program are in tests/end_to_end.
ABOUT_THE_REPOSITORY = {
    "documentation",
    "documented_commands",
    "examples",
    "glossary",
    "layers",
    "mirror",
    "recipes",
    "scripts",
    "shape_checks",
}
# Test files that are still without a module of their name. The list may only shrink.
WITHOUT_MODULE: set[str] = set()

CLOCKS = {"sleep", "monotonic", "perf_counter", "process_time", "monotonic_ns", "perf_counter_ns"}


def files_of_tests() -> list[Path]:
    return sorted(TESTS.rglob("test_*.py"))


def has_module(path: Path) -> bool:
    """Whether a module or a folder has the name of a test file, or the beginning of it up to an underscore.

    test_prefix_thinking.py tests one aspect of prefix.py.
    """
    folder = path.parent.relative_to(TESTS)
    words = path.stem.removeprefix("test_").split("_")
    names = ["_".join(words[:count]) for count in range(len(words), 0, -1)]
    places = [source / folder / name for source in SOURCES for name in names]
    return any(place.is_dir() or place.with_suffix(".py").is_file() for place in places)


def without_module() -> set[str]:
    found = set()
    for path in files_of_tests():
        relative = path.relative_to(TESTS)
        whole = relative.parts[0] == "end_to_end" or (
            len(relative.parts) == 1 and path.stem.removeprefix("test_") in ABOUT_THE_REPOSITORY
        )
        if not whole and not has_module(path):
            found.add(relative.as_posix())
    return found


def test_every_test_file_has_the_module_of_its_name() -> None:
    assert without_module() - WITHOUT_MODULE == set()


def test_the_list_of_exceptions_holds_no_old_ones() -> None:
    assert WITHOUT_MODULE - without_module() == set()
    stems = {path.stem.removeprefix("test_") for path in TESTS.glob("test_*.py")}
    assert stems >= ABOUT_THE_REPOSITORY


def test_all_test_folders_are_packages() -> None:
    folders = {path.parent for path in TESTS.rglob("*.py")}
    assert {folder for folder in folders if not (folder / "__init__.py").is_file()} == set()


def imports_of_test_files(text: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found += [name for name in names if name.rpartition(".")[2].startswith("test_")]
    return found


def test_nobody_imports_from_a_test_file() -> None:
    found = {path: names for path in TESTS.rglob("*.py") if (names := imports_of_test_files(path.read_text()))}
    assert found == {}


def clock_uses(node: ast.AST, inside_a_kill: bool = False) -> Iterator[str]:
    """Calls of a clock or of sleep, in code and in scripts within strings, but for functions with `kill` in their name.

    A test of kills must wait for a moment within the work of another process.
    """
    for child in ast.iter_child_nodes(node):
        kills = inside_a_kill or (isinstance(child, ast.FunctionDef) and "kill" in child.name)
        if isinstance(child, ast.Call) and not kills:
            function = child.func
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            if name in CLOCKS:
                yield f"line {child.lineno}: {name}"
        if isinstance(child, ast.Constant) and isinstance(child.value, str) and not kills:
            yield from (f"line {child.lineno}: {name} in a string" for name in CLOCKS if f"time.{name}(" in child.value)
        yield from clock_uses(child, kills)


def test_no_test_sleeps_or_asserts_a_duration_but_those_of_kills() -> None:
    others = [path for path in TESTS.rglob("*.py") if path != Path(__file__)]
    found = {path: uses for path in others if (uses := [*clock_uses(ast.parse(path.read_text()))])}
    assert found == {}


@pytest.mark.parametrize(
    ("text", "uses"),
    [
        ("import time\ndef test_a():\n    time.sleep(1)\n", 1),
        ("from time import monotonic\ndef test_a():\n    assert monotonic() < 3\n", 1),
        ("SCRIPT = 'import time; time.sleep(60)'\n", 1),
        ("import time\ndef test_a_kill():\n    time.sleep(1)\n", 0),
        ("def test_a(monkeypatch):\n    monkeypatch.setattr('time.sleep', print)\n", 0),
    ],
)
def test_a_use_of_the_clock_is_found(text: str, uses: int) -> None:
    assert len(list(clock_uses(ast.parse(text)))) == uses


def test_an_import_of_a_test_file_is_found() -> None:
    assert imports_of_test_files("from tests.ui.test_menus import running") == ["tests.ui.test_menus"]
    assert imports_of_test_files("from tests.ui import test_menus") == ["test_menus"]
    assert imports_of_test_files("import json\nfrom tests.support.terminal import running") == []
