"""The house rules that can be checked: who imports whom, who prints, what --help costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from heretic.cli.main import VERBS

SOURCE = Path(__file__).parent.parent / "src" / "heretic"
ABOVE = (
    "heretic.commands",
    "heretic.search",
    "heretic.session",
    "heretic.cli",
    "heretic.ui",
    "heretic.web",
    "heretic.api",
)
FILES = sorted(SOURCE.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Full names of the modules of ours, and the top names of others, that a file imports anywhere."""
    package = ["heretic", *path.relative_to(SOURCE).parts[:-1]]
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - node.level + 1]
                names.add(".".join([*base, *([node.module] if node.module else [])]))
            elif node.module:
                names.add(node.module.split(".")[0])
    return names


def test_ablation_imports_nothing_of_ours() -> None:
    for path in (SOURCE / "ablation").rglob("*.py"):
        others = {name for name in imported(path) if name.startswith("heretic") and ".ablation" not in name}
        assert not others, f"{path.name} imports {others}"
        assert "transformers" not in imported(path)


def test_study_knows_no_model() -> None:
    for path in (SOURCE / "study").rglob("*.py"):
        assert not imported(path) & {"transformers", "torch"}, path
        assert not any(part in name for name in imported(path) for part in (".model", ".engine", ".export")), path


@pytest.mark.parametrize("stage", ["model", "engine", "evaluation", "study", "export", "prompts", "benchmark"])
def test_stages_do_not_import_upstream(stage: str) -> None:
    for path in (SOURCE / stage).rglob("*.py"):
        upstream = {name for name in imported(path) if name.startswith(ABOVE)}
        assert not upstream, f"{path} imports {upstream}"


def test_files_are_short() -> None:
    long = {str(path): count for path in FILES if (count := len(path.read_text().splitlines())) > 300}
    assert not long


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_imports_nothing_heavy(verb: str) -> None:
    program = (
        "import sys\nfrom heretic.cli.main import main\n"
        f"try: main({[*verb.split(), '--help']!r})\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'optuna', 'datasets', 'numpy', 'rich'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage: heretic" in done.stdout
