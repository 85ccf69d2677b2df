"""The digest covers every byte, and reads unchanged files once."""

import json
import os
from pathlib import Path

import pytest

from heretic.model.loading import digest as module
from heretic.model.loading.checkpoint import Checkpoint
from heretic.model.loading.digest import digest_ahead, unread_bytes, whole_digest

MIB = 1 << 20


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    monkeypatch.setattr(module, "user_cache_path", lambda _: tmp_path / "cache")
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    (directory / "modeling_odd.py").write_text("odd = 1\n")
    (directory / "model.safetensors").write_bytes(bytes(3 * MIB))
    for path in directory.iterdir():
        os.utime(path, (1_000_000_000, 1_000_000_000))
    monkeypatch.setattr(module, "SETTLED", -1)
    return Checkpoint("model", directory)


@pytest.mark.parametrize("name", ["config.json", "modeling_odd.py", "model.safetensors"])
def test_one_bit_anywhere_changes_it(checkpoint: Checkpoint, name: str) -> None:
    before, quick = whole_digest(checkpoint), checkpoint.digest()
    path = checkpoint.directory / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    # Restores the times, as an attacker would who hides the exchange.
    os.utime(path, (1_000_000_000, 1_000_000_000))
    assert whole_digest(checkpoint) != before
    assert name != "model.safetensors" or checkpoint.digest() == quick, "which is why there is another one"


def test_unchanged_files_are_read_once(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    assert unread_bytes(checkpoint) > 3 * MIB
    counted: list[int] = []
    first = whole_digest(checkpoint, counted.append)
    assert (sum(counted), unread_bytes(checkpoint)) == (3, 0)
    monkeypatch.setattr(module, "_sha256", lambda path: pytest.fail(f"{path} is read again"))
    assert whole_digest(checkpoint) == first


def test_files_read_ahead_are_not_read_again(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    sha256 = module._sha256
    monkeypatch.setattr(module, "_sha256", lambda path: read.append(path) or sha256(path))
    digest_ahead(checkpoint)
    # Waits for the thread.
    assert unread_bytes(checkpoint) == 0
    whole_digest(checkpoint)
    assert len(read) == 3


def test_a_file_of_this_moment_is_not_kept(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another change within the resolution of the file system's clock would not be detected."""
    monkeypatch.setattr(module, "SETTLED", 2.0)
    whole_digest(checkpoint)
    assert unread_bytes(checkpoint) > 0


@pytest.mark.parametrize("damage", ["", "[]", '{"a": 1}', "[" * 100_000])
def test_a_damaged_cache_is_no_loss(checkpoint: Checkpoint, damage: str, tmp_path: Path) -> None:
    first = whole_digest(checkpoint)
    (tmp_path / "cache" / "digests.json").write_text(damage)
    assert whole_digest(checkpoint) == first
    assert json.loads((tmp_path / "cache" / "digests.json").read_text())


def test_a_cache_that_can_not_be_written_is_no_loss(checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    assert whole_digest(checkpoint) == whole_digest(checkpoint)
