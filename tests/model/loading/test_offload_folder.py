"""No folder of offloaded weights outlives its model or its process."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from heretic.config import ModelSettings
from heretic.errors import ModelError
from heretic.model.loading import load
from heretic.model.loading.checkpoint import Checkpoint
from heretic.model.loading.offload_folder import PREFIX, OffloadFolder, remove_abandoned


def names(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_it_goes_with_its_model(place: Path) -> None:
    class Model:
        pass

    folder, model = OffloadFolder(), Model()
    folder.belongs_to(model)
    assert names(place) == [Path(folder.path).name]
    del model
    assert not names(place)


@pytest.mark.parametrize("error", [ValueError("damaged"), KeyboardInterrupt()])
def test_it_goes_when_loading_fails(
    error: BaseException, place: Path, planted_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def from_pretrained(*_: object, **arguments: Any) -> None:
        seen.append(arguments["offload_folder"])
        raise error

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", from_pretrained)
    settings = ModelSettings(dtypes=["float32"], max_memory={"cpu": "1GB"})
    with pytest.raises((ModelError, KeyboardInterrupt)):
        load.load_decoder(Checkpoint("planted", planted_directory / "planted"), settings, lambda _: None)
    assert seen
    assert not names(place)


def test_those_of_killed_processes_are_removed(place: Path) -> None:
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    for number in (int(done.stdout), os.getpid()):
        (place / f"{PREFIX}{number}-x").mkdir()
    (place / f"{PREFIX}mine").mkdir()
    (place / f"{PREFIX}{int(done.stdout)}-link").symlink_to(place / "elsewhere")
    remove_abandoned(place)
    assert names(place) == sorted([f"{PREFIX}{os.getpid()}-x", f"{PREFIX}mine", f"{PREFIX}{int(done.stdout)}-link"])
