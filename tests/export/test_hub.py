"""Uploads, to a fake server of the hub."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from heretic.errors import ExportError
from heretic.export.hub import left_out, upload_files
from heretic.export.manifest import MANIFEST
from tests.support.hub_server import OWNER, TOKEN, Hub, running_hub

REPOSITORY = f"{OWNER}/model-heretic"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as hub:
        yield hub


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """A directory as an export leaves it."""
    directory = tmp_path / "model-heretic"
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    (directory / "README.md").write_text("---\nlicense: mit\n---\n# Model\n")
    (directory / ".hidden").write_text("not to be sent")
    (directory / "notes.txt").write_text("not to be sent")
    for number in (1, 2, 3):
        (directory / f"model-0000{number}-of-00003.safetensors").write_bytes(bytes([number]) * 1000)
    names = [path.name for path in directory.iterdir() if path.name not in (".hidden", "notes.txt")]
    (directory / MANIFEST).write_text(json.dumps({"files": [*names, MANIFEST]}))
    return directory


def command(hub: Hub, token: str | None, home: Path, *arguments: object) -> tuple[list[str], dict[str, str]]:
    """A process of its own: where the hub is, its library reads when it is imported."""
    environment = {name: value for name, value in os.environ.items() if name not in ("HF_TOKEN", "HF_HUB_OFFLINE")}
    environment |= {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(home), "NO_PROXY": "*"}
    if token is not None:
        environment["HF_TOKEN"] = token
    return [sys.executable, "-m", "heretic", "upload", *map(str, arguments)], environment


@pytest.fixture
def run(hub: Hub, tmp_path: Path) -> Run:
    def run(*arguments: object, token: str | None = TOKEN) -> subprocess.CompletedProcess[str]:
        words, environment = command(hub, token, tmp_path / "home", *arguments)
        return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)

    return run


def test_an_export_arrives_in_a_new_private_repository(hub: Hub, export: Path, run: Run, tmp_path: Path) -> None:
    done = run(export, REPOSITORY)
    assert done.returncode == 0, done.stderr
    assert hub.private[REPOSITORY]
    assert "Not sent, since the export did not write them: .hidden, notes.txt." in done.stderr
    expected = {p.name: p.read_bytes() for p in export.iterdir() if p.name not in (".hidden", "notes.txt")}
    assert hub.repositories[REPOSITORY] == {".gitattributes": b""} | expected
    assert f"{hub.url}/{REPOSITORY}" in done.stderr
    written = [path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(TOKEN in text for text in [done.stdout, done.stderr, *written]), "the token leaves no trace"


def test_a_repository_is_public_if_asked_and_the_owner_is_known(hub: Hub, export: Path, run: Run) -> None:
    assert run(export, "model-heretic", "--public").returncode == 0
    assert hub.private == {REPOSITORY: False}


def test_one_commit_replaces_the_weights_of_an_earlier_upload(hub: Hub, export: Path, run: Run) -> None:
    hub.repositories[REPOSITORY] = {
        "model.safetensors": b"old",
        "model.safetensors.index.json": b"{}",
        "notes.md": b"kept",
    }
    assert run(export, REPOSITORY, "--public").returncode == 0
    files = hub.repositories[REPOSITORY]
    assert "model.safetensors" not in files and "model.safetensors.index.json" not in files
    assert files["notes.md"] == b"kept" and "model-00003-of-00003.safetensors" in files
    assert sum("/commit/" in call for call in hub.calls) == 1


@pytest.mark.parametrize(
    ("call", "status", "help_text"),
    [
        ("GET /api/whoami", 401, "hf auth login"),
        ("POST /api/repos/create", 403, "may write"),
        ("PUT", 403, "may write"),
        (f"POST /api/models/{REPOSITORY}/commit", 413, "max-shard-size"),
    ],
)
def test_a_refusal_of_the_hub_is_one_paragraph(
    hub: Hub, export: Path, run: Run, call: str, status: int, help_text: str
) -> None:
    hub.failures[call] = status
    done = run(export, REPOSITORY)
    assert done.returncode == 2
    [message] = [line for line in done.stderr.splitlines() if line.startswith("heretic: ")]
    assert str(status) in message and help_text in message and str(export) in message
    assert "Traceback" not in done.stderr and TOKEN not in done.stderr + done.stdout
    assert set(hub.repositories.get(REPOSITORY, {})) <= {".gitattributes"}, "no part of a model is to be seen"


@pytest.mark.parametrize(("stop", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_an_interrupted_upload_shows_nothing_and_goes_on_where_it_was(
    hub: Hub, export: Path, run: Run, tmp_path: Path, stop: signal.Signals, status: int
) -> None:
    hub.stalled_after = 2
    words, environment = command(hub, TOKEN, tmp_path / "home", export, REPOSITORY)
    with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert hub.stalling.wait(30)
        process.send_signal(stop)
        hub.released.set()
        assert process.wait(20) == status
    assert set(hub.repositories[REPOSITORY]) == {".gitattributes"}
    assert len(hub.puts) == 2
    hub.stalled_after = None
    assert run(export, REPOSITORY).returncode == 0
    assert len(hub.puts) == 3, "what had arrived is not sent again"
    assert "model-00003-of-00003.safetensors" in hub.repositories[REPOSITORY]


def test_without_a_login_nothing_is_sent(hub: Hub, export: Path, run: Run) -> None:
    done = run(export, REPOSITORY, token=None)
    assert done.returncode == 2 and "hf auth login" in done.stderr
    assert hub.calls == []


@pytest.mark.parametrize("name", ["a/b/c", "a b", "", "a/b.git"])
def test_a_name_that_cannot_be_is_refused(hub: Hub, export: Path, run: Run, name: str) -> None:
    done = run(export, name)
    assert done.returncode == 2 and "OWNER/NAME" in done.stderr
    assert hub.calls == []


def test_what_is_no_model_is_not_uploaded(hub: Hub, tmp_path: Path, run: Run) -> None:
    (tmp_path / "notes.txt").write_text("private")
    for directory in (tmp_path, tmp_path / "nothing"):
        done = run(directory, REPOSITORY)
        assert done.returncode == 2 and "directory" in done.stderr
    assert hub.calls == []


def test_only_what_the_export_wrote_is_sent(tmp_path: Path) -> None:
    for name in ("config.json", "notes.txt", "model.safetensors", "optimizer.pt", "id_rsa", ".env", "code/odd.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("content")
    with pytest.raises(ExportError, match=r"found no heretic\.json"):
        upload_files(tmp_path)
    listed = ["config.json", "model.safetensors", "code/odd.py", "heretic.json", "../outside", "/etc/hostname", ".env"]
    (tmp_path / MANIFEST).write_text(json.dumps({"files": listed}))
    sent = [path.relative_to(tmp_path).as_posix() for path in upload_files(tmp_path)]
    assert sent == ["code/odd.py", "config.json", "heretic.json", "model.safetensors"]
    assert left_out(tmp_path) == [".env", "id_rsa", "notes.txt", "optimizer.pt"]


@pytest.mark.parametrize("manifest", ["{}", "[]", '{"files": 3}', "[" * 100_000])
def test_of_an_earlier_export_known_names_are_sent(manifest: str, tmp_path: Path) -> None:
    for name in ("config.json", "notes.txt", "model.safetensors", "tokenizer.json", "id_rsa"):
        (tmp_path / name).write_text("content")
    (tmp_path / MANIFEST).write_text(manifest)
    assert left_out(tmp_path) == ["id_rsa", "notes.txt"]


def test_what_a_link_points_to_is_not_sent(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / MANIFEST).write_text("{}")
    assert [path.name for path in upload_files(tmp_path)] == ["config.json", MANIFEST]
    for target in (tmp_path.parent / "secret", Path("/etc/hostname"), tmp_path):
        link = tmp_path / "notes.txt"
        link.symlink_to(target)
        with pytest.raises(ExportError, match="is a link"):
            upload_files(tmp_path)
        link.unlink()
