"""The order of imports, the length of files, and the imports that `--help` must not cost."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from heretic.cli.entry import VERBS

SOURCE = Path(__file__).parent.parent / "src" / "heretic"
FILES = sorted(SOURCE.rglob("*.py"))

# Each line may import from the lines below it. Packages of one line do not import each other.
LAYERS = (
    ("cli",),
    ("web", "api"),
    ("commands",),
    ("search",),
    ("session", "ui"),
    ("report",),
    ("export", "benchmark"),
    ("evaluation",),
    ("engine",),
    ("model",),
    ("prompts", "events"),
    ("study",),
    ("config",),
    ("ablation", "errors", "files", "installing", "printable"),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
# The package's own front door is above everything: it re-exports the API and holds the version.
ENTRY_POINTS = {"__init__", "__main__"}

# Imports that still break the order. The list may only shrink.
VIOLATIONS: set[tuple[str, str]] = set()


def part(path: Path) -> str:
    """The top-level package or module of a source file."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """Full names of all modules that a file imports, at its top or inside a function."""
    package = ["heretic", *path.relative_to(SOURCE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # `from .. import errors` imports a module of the package, `from .. import __version__` a name.
            names = [f"{module}.{alias.name}" for alias in node.names if is_module(f"{module}.{alias.name}")]
            yield from names or [module]


def is_module(name: str) -> bool:
    path = SOURCE.parent / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def ours(path: Path) -> set[str]:
    """Modules of this project that a file imports, without the leading `heretic.`"""
    return {name.removeprefix("heretic.") for name in imported(path) if name.startswith("heretic.")}


def violations() -> set[tuple[str, str]]:
    found = set()
    for path in FILES:
        here = part(path)
        for name in ours(path) if here not in ENTRY_POINTS else ():
            other = name.partition(".")[0]
            if other != here and LEVEL[other] <= LEVEL[here]:
                found.add((path.relative_to(SOURCE).as_posix(), name))
    return found


def test_every_package_is_in_the_table() -> None:
    assert {part(path) for path in FILES} - ENTRY_POINTS == set(LEVEL)


def test_nobody_imports_upward() -> None:
    assert violations() - VIOLATIONS == set()


def test_the_list_of_violations_holds_no_old_ones() -> None:
    assert VIOLATIONS - violations() == set()


def test_an_upward_import_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "wrong.py").write_text("def f():\n    from ..evaluation.evaluator import Evaluator\n")
    monkeypatch.setattr(sys.modules[__name__], "SOURCE", tmp_path)
    monkeypatch.setattr(sys.modules[__name__], "FILES", [tmp_path / "engine" / "wrong.py"])
    assert violations() == {("engine/wrong.py", "evaluation.evaluator")}


def test_ablation_is_pure_maths() -> None:
    for path in (SOURCE / "ablation").rglob("*.py"):
        assert {name.partition(".")[0] for name in ours(path)} <= {"ablation", "errors"}, path
        assert not top_names(path) & {"transformers", "optuna"}, path


def test_study_knows_no_model() -> None:
    for path in (SOURCE / "study").rglob("*.py"):
        assert not top_names(path) & {"transformers", "torch"}, path


def top_names(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(path)}


def test_files_are_short() -> None:
    long = {str(path): count for path in FILES if (count := len(path.read_text().splitlines())) > 300}
    assert not long


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_imports_nothing_heavy(verb: str) -> None:
    program = (
        "import sys\nfrom heretic.cli.entry import main\n"
        f"try: main({[*verb.split(), '--help']!r})\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'optuna', 'datasets', 'numpy', 'rich'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage: heretic" in done.stdout
