"""The library is found by the files of installed packages, and none of these is imported."""

import importlib.metadata
import sys
from pathlib import PurePosixPath

import pytest

from heretic.export.ggml import library


def names(monkeypatch: pytest.MonkeyPatch, **files: list[str]) -> list[str]:
    """Names of the libraries that would be tried with these packages installed."""

    class File(PurePosixPath):
        def locate(self) -> PurePosixPath:
            return self

    def of(package: str) -> list[File]:
        if package.replace("-", "_") not in files:
            raise importlib.metadata.PackageNotFoundError(package)
        return [File(each) for each in files[package.replace("-", "_")]]

    monkeypatch.setattr(library.metadata, "files", of)
    return [str(path) for path in library._libraries()]


@pytest.mark.parametrize(
    "name",
    [
        "pywhispercpp.libs/libggml-base-319ad4fb.so.0.13.1",
        "llama_cpp/lib/libggml-base.dylib",
        "llama_cpp/lib/ggml-base.dll",
        "xllamacpp/xllamacpp.abi3.so",
        "xllamacpp/xllamacpp.pyd",
        "ggml/lib/libggml.so",
    ],
)
def test_libraries_of_all_systems_are_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert names(monkeypatch, pywhispercpp=[name, "pywhispercpp/model.py"]) == [name]


def test_the_part_with_the_quantiser_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    found = names(monkeypatch, pywhispercpp=["libggml-cpu.so", "libggml-base.so", "libggml.so", "libwhisper.so"])
    assert found[0] == "libggml-base.so"


def test_without_a_package_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert names(monkeypatch) == []


def test_the_package_is_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    # Another test may have imported it.
    monkeypatch.delitem(sys.modules, "xllamacpp", raising=False)
    library.find_ggml.cache_clear()
    assert library.find_ggml() is not None
    assert "xllamacpp" not in sys.modules
