"""Modules of tests that need a package which may be missing."""

from importlib.util import find_spec

import pytest


def need_package(name: str) -> None:
    """Skips the module that is being collected where a package is missing. Unlike `importorskip`, it imports nothing:
    every process collects all modules."""
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed", allow_module_level=True)
