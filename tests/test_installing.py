"""Commands that add an extra, and two programs that install the same names."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import heretic
from heretic import installing
from heretic.installing import install_command

SOURCE = Path(__file__).parent.parent / "src"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory with the program as a wheel installs it: the code as heretic_lab, the alias as heretic."""
    (tmp_path / "heretic_lab").symlink_to(SOURCE / "heretic")
    shutil.copytree(SOURCE / "heretic_lab", tmp_path / "heretic")
    return tmp_path


def install_other(site: Path) -> None:
    """A distribution heretic-llm whose files are a package and a command `heretic`."""
    information = site / "heretic_llm-1.4.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: heretic-llm\nVersion: 1.4.0\n")
    (information / "RECORD").write_text("heretic/__init__.py,,\n../../../bin/heretic,,\n")


def run(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, cwd=site, capture_output=True, text=True, timeout=120)


def test_both_import_names_give_the_same_modules(site: Path) -> None:
    code = (
        "import heretic, heretic_lab, heretic.errors, heretic.search.time_budget, heretic_lab.errors;"
        "assert heretic is heretic_lab and heretic.errors is heretic_lab.errors;"
        "assert callable(heretic.search) and heretic.errors.__spec__.name == 'heretic_lab.errors'"
    )
    found = run(site, "-W", "error", "-c", code)
    assert (found.returncode, found.stderr) == (0, "")


def test_a_module_of_the_second_name_runs_as_a_program(site: Path) -> None:
    found = run(site, "-m", "heretic.cli.config")
    assert (found.returncode, found.stderr) == (0, "")
    assert run(site, "-m", "heretic", "--version").stdout.startswith("heretic ")


def test_heretic_llm_installed_after_this_program_leaves_it_the_second_name(site: Path) -> None:
    install_other(site)
    (site / "heretic" / "__init__.py").write_text("NAME = 'the other program'\n")
    found = run(site, "-m", "heretic_lab", "config")
    first, *_ = found.stderr.splitlines()
    assert "write heretic-lab where messages say heretic" in first
    assert found.stdout.startswith("# The settings of heretic") and found.returncode == 0


def test_heretic_llm_installed_before_this_program_is_said_to_be_broken(site: Path) -> None:
    install_other(site)
    found = run(site, "-m", "heretic", "config")
    assert "so heretic-llm does not work" in found.stderr.splitlines()[0]


def test_alone_there_is_no_warning(site: Path) -> None:
    assert "heretic-llm" not in run(site, "-m", "heretic", "config").stderr


def test_an_extra_is_installed_by_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["numpy>=2.0", "plotly>=6.0; extra == 'report'", 'gradio (>=6.0) ; python_version > "3" and extra == "ui"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: lines)
    assert install_command("report") == 'pip install "plotly>=6.0"'
    assert install_command("ui") == 'pip install "gradio(>=6.0)"'


def test_an_environment_of_pipx_is_changed_by_pipx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: ["plotly>=6.0; extra == 'report'"])
    monkeypatch.setattr(sys, "prefix", "/home/someone/.local/share/pipx/venvs/heretic")
    assert install_command("report") == 'pipx inject heretic "plotly>=6.0"'


def test_an_environment_of_uv_has_no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: ["plotly>=6.0; extra == 'report'"])
    monkeypatch.setattr(installing, "has_pip", lambda: False)
    monkeypatch.setattr(sys, "prefix", "/somewhere/env")
    monkeypatch.setenv("VIRTUAL_ENV", "/somewhere/env")
    assert install_command("report") == 'uv pip install "plotly>=6.0"'
    monkeypatch.delenv("VIRTUAL_ENV")
    assert install_command("report") == 'uv pip install --python "/somewhere/env" "plotly>=6.0"'


def test_without_metadata_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> list[str]:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", missing)
    assert installing.install_command("report") == 'pip install ".[report]"'


def test_the_version_has_one_source() -> None:
    root = SOURCE.parent
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "version" not in project and "version" in project["dynamic"]
    assert f"\nversion: {heretic.__version__}\n" in (root / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## {heretic.__version__}" in (root / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_package_of_the_source_is_installed() -> None:
    """setup.py lists what find_packages finds: a directory without __init__.py would be left out."""
    inside = {path.parent for path in (SOURCE / "heretic").rglob("*.py")}
    assert all((path / "__init__.py").is_file() for path in inside)
