"""Files appear whole, as readable as the user's other files, on file systems that can't sync too."""

import errno
import os
from pathlib import Path

import pytest

from heretic.errors import system_paragraph
from heretic.files import expand_home, make_directory, sync_path, write_atomically


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o007])
def test_the_mode_follows_the_umask(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        write_atomically(tmp_path / "file", b"content")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~mask


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EACCES, errno.ENOTSUP])
def test_what_can_not_be_synced_is_written_all_the_same(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(_: int) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr("heretic.files.os.fsync", refuses)
    write_atomically(tmp_path / "file", b"content")
    assert (tmp_path / "file").read_bytes() == b"content"
    assert not sync_path(tmp_path)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    (tmp_path / "file").write_bytes(b"old")
    monkeypatch.setattr("heretic.files.os.fsync", full)
    with pytest.raises(OSError, match="full"):
        write_atomically(tmp_path / "file", b"new")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_a_place_where_nothing_can_be_made_is_no_bug_of_the_program(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    paragraphs = []
    for place in (tmp_path / "taken", tmp_path / "taken/below", Path("/proc/nothing")):
        for make in (lambda place: make_directory(place), lambda place: write_atomically(place / "file", b"")):
            if place.parts[1] == "proc" and not Path("/proc").is_dir():
                continue
            with pytest.raises(OSError) as refused:
                make(place)
            paragraphs.append(system_paragraph(refused.value) or "")
    assert all("name another place" in each or "name a place" in each for each in paragraphs)


def test_only_the_home_of_a_user_who_exists_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand_home("~/models") == tmp_path / "models"
    for path in ("~nobody.of.this.name/models", "models/~", "models"):
        assert expand_home(path) == Path(path)
