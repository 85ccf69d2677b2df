"""A run that ends on the hub."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from heretic.cli import main
from heretic.events import Action, FormatChoice
from heretic.study.schema import BaselineRecord, TrialRecord
from heretic.ui.flags import FlagChooser
from tests.support.hub_server import OWNER, TOKEN, Hub, running_hub

REPOSITORY = f"{OWNER}/edited"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import constants

    with running_hub() as hub:
        # What the library reads from the environment when it is imported, which in this process has been.
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


def test_a_search_ends_on_the_hub_and_an_export_follows_it(
    hub: Hub, planted_directory: Path, planted_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(planted_directory / "planted")
    output = tmp_path / "edited"
    assert main([model, *planted_flags, "--n-trials", "6", "--output", str(output), "--upload", REPOSITORY]) == 0
    assert f"{hub.url}/{REPOSITORY}" in capsys.readouterr().err
    files = hub.repositories[REPOSITORY]
    assert {name: content for name, content in files.items() if name != ".gitattributes"} == {
        path.name: path.read_bytes() for path in output.iterdir()
    }
    card = files["README.md"].decode()
    assert "refusals" in card and "As written".lower() in card.lower() and "library_name: transformers" in card
    assert str(planted_directory) not in card, "the card names no folder of this machine"
    [journal] = (tmp_path / "checkpoints").glob("*.jsonl")
    adapter = ["--export", "adapter", "--output", str(tmp_path / "adapter"), "--upload", f"{OWNER}/adapter"]
    assert main(["export", str(journal), *adapter, "--upload-public"]) == 0
    assert "adapter_model.safetensors" in hub.repositories[f"{OWNER}/adapter"]
    assert hub.private == {REPOSITORY: True, f"{OWNER}/adapter": False}


def test_without_a_login_nothing_is_searched(
    hub: Hub, planted_directory: Path, planted_flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert main([str(planted_directory / "planted"), *planted_flags, "--upload", REPOSITORY]) == 2
    assert not (tmp_path / "checkpoints").exists()


def test_in_the_menu_nothing_is_written_without_a_login(
    hub: Hub,
    planted_directory: Path,
    planted_flags: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "edited"

    class Uploads(FlagChooser):
        """Somebody who asks for an upload, and leaves."""

        asks = True

        def offer(self, formats: Sequence[FormatChoice]) -> None:
            pass

        def next_action(self, front: Sequence[TrialRecord], baseline: BaselineRecord) -> Action:
            if self._done:
                return Action("leave")
            self._done = True
            return Action("upload", front[0], "merge", str(output), repository=REPOSITORY)

    monkeypatch.setattr("heretic.cli.search._chooser", lambda model, export, *_: Uploads(export, None, model))
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert main([str(planted_directory / "planted"), *planted_flags, "--n-trials", "2"]) == 0
    printed = capsys.readouterr().err
    assert "Warning: " in printed and "hf_wrong" not in printed
    assert not output.exists() and not hub.repositories


def test_what_was_written_stays_when_the_upload_fails(
    hub: Hub, planted_directory: Path, planted_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.failures["PUT"] = 403
    output = tmp_path / "edited"
    flags = [*planted_flags, "--n-trials", "2", "--output", str(output), "--upload", REPOSITORY]
    assert main([str(planted_directory / "planted"), *flags]) == 2
    assert f"Try again with: heretic upload {output} {REPOSITORY}" in capsys.readouterr().err
    assert (output / "config.json").exists()
    hub.failures.clear()
    assert main(["upload", str(output), REPOSITORY]) == 0
    assert "model.safetensors" in hub.repositories[REPOSITORY]
