"""What many tests share: the planted model on disk, written once."""
# ruff: noqa: E402

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

# Tiny models gain nothing from a second thread, and threads that wait for each other lose much on a busy machine.
os.environ["OMP_NUM_THREADS"] = "1"
# What is imported stays: collections would search it again and again, a fifth of the time that collecting tests takes.
gc.disable()

import pytest

from tests.support.shape_checks import Checks, check_first_calls

check_first_calls()

from heretic.cli import main
from tests.support.planted import search_flags, write_planted


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: begun last, one would be left to one process while the others wait.

    Tests that need a GPU are skipped without one.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    needing = [item for item in items if item.get_closest_marker("gpu")]
    if needing and not _has_gpu():
        for item in needing:
            item.add_marker(pytest.mark.skip(reason="there is no GPU"))


def pytest_runtest_setup() -> None:
    Checks.test += 1


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture(scope="session")
def planted_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the planted model (planted/) and its prompt files."""
    directory = tmp_path_factory.mktemp("planted")
    write_planted(directory)
    return directory


@pytest.fixture
def modules_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """transformers copies a model's code into a cache before it runs it: here one of the test's own."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "transformers_modules"]:
        del sys.modules[name]


@pytest.fixture
def planted_flags(planted_directory: Path, tmp_path: Path) -> list[str]:
    """Command-line flags for a short run on the planted model, with a study directory of the test's own."""
    return search_flags(planted_directory, tmp_path / "checkpoints")


@pytest.fixture(scope="module")
def short_study(planted_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The journal of a study of six trials of the planted model, for one module's tests."""
    directory = tmp_path_factory.mktemp("study")
    flags = [*search_flags(planted_directory, directory), "--n-trials", "6", "--heldout-trials", "0"]
    assert main([str(planted_directory / "planted"), *flags]) == 0
    [journal] = directory.glob("*.jsonl")
    return journal
