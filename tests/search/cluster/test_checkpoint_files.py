"""The model's files on another machine: found at the same path, or copied once, piece by piece."""

from functools import partial
from pathlib import Path

import pytest

from heretic.errors import ModelError
from heretic.model.loading.checkpoint import Checkpoint
from heretic.search.cluster import checkpoint_files
from heretic.search.cluster.checkpoint_files import FileSource, checkpoint_here, file_source, read_piece


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileSource:
    """A source whose directory is on another machine."""
    monkeypatch.setattr(checkpoint_files, "PIECE", 7)
    monkeypatch.setattr(checkpoint_files, "user_cache_path", lambda _: tmp_path / "cache")
    there = tmp_path / "there"
    there.mkdir()
    (there / "config.json").write_text("{}")
    (there / "model.safetensors").write_bytes(bytes(range(100)))
    (there / "empty.txt").write_text("")
    source = file_source(Checkpoint("model", there), partial(read_piece, there))
    moved = tmp_path / "moved"
    there.rename(moved)
    return FileSource(source.checkpoint, source.digest, source.sizes, partial(read_piece, moved))


def test_files_are_copied_once(elsewhere: FileSource, tmp_path: Path) -> None:
    said: list[str] = []
    copy = checkpoint_here(elsewhere, said.append)
    assert copy.directory == tmp_path / "cache" / "models" / elsewhere.digest
    assert copy.digest() == elsewhere.digest
    assert (copy.directory / "empty.txt").read_bytes() == b""
    assert said[-1].startswith("copying the model: 100%")
    said.clear()
    assert checkpoint_here(elsewhere, said.append) == copy
    assert said == []


def test_files_in_the_same_place_are_not_copied(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    here = Checkpoint("model", tmp_path)
    assert checkpoint_here(file_source(here, partial(read_piece, tmp_path / "nowhere")), print) == here


def test_files_that_change_during_the_copy_are_an_error(elsewhere: FileSource) -> None:
    source = FileSource(elsewhere.checkpoint, "another digest", elsewhere.sizes, elsewhere.read)
    with pytest.raises(ModelError, match="changed during the copy"):
        checkpoint_here(source, lambda _: None)
