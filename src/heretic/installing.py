"""What is installed next to this program: the commands that add a missing extra, and heretic-llm in the same place."""

import importlib.metadata
import importlib.util
import os
import re
import sys
from functools import cache
from pathlib import Path

DISTRIBUTION = "heretic"
OTHER = "heretic-llm"
"""Another distribution with a package and a command `heretic`."""
NAME, SECOND_NAME = "heretic", "heretic-lab"
"""The command, and the one that no other distribution has; the packages are called alike, with an underscore."""
PACKAGE, SECOND_PACKAGE = "heretic", "heretic_lab"

EXTRA = re.compile(r"""extra\s*==\s*['"]([\w-]+)['"]""")


def install_command(extra: str) -> str:
    """The command that installs what an extra names, in the environment that this program runs in.

    It names the packages themselves: that works for a checkout, a wheel and an index alike.
    """
    packages = requirements_of(extra)
    if not packages:
        # Only a copy of the repository runs without being installed.
        return f'pip install ".[{extra}]"'
    quoted = " ".join(f'"{each}"' for each in packages)
    return f"{_installer()} {quoted}"


def requirements_of(extra: str) -> list[str]:
    """The packages of an extra with their lowest versions; empty where the program is not installed."""
    try:
        lines = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    found = []
    for line in lines:
        requirement, _, marker = line.partition(";")
        named = EXTRA.search(marker)
        if named is not None and named[1] == extra:
            found.append(requirement.strip().replace(" ", ""))
    return found


def _installer() -> str:
    """The tool that made this environment."""
    prefix = Path(sys.prefix)
    if prefix.parent.name == "venvs" and prefix.parent.parent.name == "pipx":
        return f"pipx inject {prefix.name}"
    if (prefix / "conda-meta").is_dir() or has_pip():
        return "pip install"
    # Without --python, uv changes the environment that is entered, which may be another one or none.
    here = os.environ.get("VIRTUAL_ENV") == sys.prefix
    return "uv pip install" if here else f'uv pip install --python "{sys.prefix}"'


def has_pip() -> bool:
    """Whether this environment has pip."""
    # Looking for its module would switch off setuptools' distutils in this process.
    return any(True for _ in importlib.metadata.distributions(name="pip"))


@cache
def clash() -> str | None:
    """One line where heretic-llm is installed in the same place and takes a name from this program, or loses it."""
    try:
        other = importlib.metadata.distribution(OTHER)
    except importlib.metadata.PackageNotFoundError:
        return None
    files = {each.parts[0] for each in other.files or () if each.parts}
    if other.files is not None and PACKAGE not in files:
        return None
    if _is_ours():
        return (
            f"{OTHER} is installed in this environment too, and both have the command {NAME} and the package "
            f"{PACKAGE}. They are this program's now, so {OTHER} does not work. Give each an environment of its own."
        )
    return (
        f"{OTHER} is installed in this environment too, and the command {NAME} and the package {PACKAGE} are its now. "
        f"This program is {SECOND_NAME}, its package {SECOND_PACKAGE}: write {SECOND_NAME} where messages say {NAME}."
    )


def _is_ours() -> bool:
    """Whether `import heretic` gives this program."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        return False
    return SECOND_PACKAGE in Path(spec.origin).read_text(encoding="utf-8", errors="replace")
