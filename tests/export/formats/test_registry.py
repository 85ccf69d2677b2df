"""Every format is a choice of the setting, and a format that is not ours is written, verified and carded like ours."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import torch
import yaml
from safetensors.torch import load_file

from heretic.commands.export import export_trial
from heretic.config import load_settings
from heretic.config.types import ExportName
from heretic.errors import ExportError
from heretic.export.formats import registry
from heretic.export.formats.base import Check, Export, ExportFormat, Written
from heretic.export.formats.merge import merge
from heretic.model.loading.checkpoint import find_checkpoint
from heretic.model.loading.load import LoadedModel, load_model
from heretic.study.reader import RecordedStudy
from heretic.ui.plain import PlainReporter


def test_the_setting_has_every_format_and_no_other() -> None:
    assert get_args(ExportName) == tuple(form.name for form in registry.FORMATS)


def test_an_unknown_name_is_an_error_that_names_the_known() -> None:
    with pytest.raises(ExportError, match="merge, adapter, gguf"):
        registry.find_format("onnx")


class Pickled(ExportFormat):
    """A checkpoint as PyTorch pickles it."""

    name = "pickled"
    label = "a pickled checkpoint"
    suffix = "-pickled"
    library = "transformers"

    def write(self, export: Export, output: Path, check: Check) -> None:
        def finish(directory: Path) -> None:
            tensors = load_file(directory / "model.safetensors")
            (directory / "model.safetensors").unlink()
            torch.save(tensors, directory / "pytorch_model.bin")
            check(directory)

        merge(export.reader, output, export.sites, export.edit_of, check=finish)

    def load(self, written: Written, say: Callable[[str], None]) -> LoadedModel:
        return load_model(find_checkpoint(str(written.directory)), written.settings, say)


def test_a_format_of_another_is_written_and_measured(
    short_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The choices of the setting are fixed when settings are defined: this one takes the place of `merge`.
    monkeypatch.setattr(Pickled, "name", "merge")
    monkeypatch.setattr(registry, "FORMATS", (Pickled(),))
    study = RecordedStudy(short_study)
    settings, _ = load_settings({"output": str(tmp_path / "edited"), "export": "merge"})
    assert export_trial(study, settings, PlainReporter(sys.stderr)) == 0
    assert "Saved" in capsys.readouterr().err
    assert sorted(path.suffix for path in (tmp_path / "edited").glob("*model*")) == [".bin"]
    written = torch.load(tmp_path / "edited" / "pytorch_model.bin", weights_only=True)
    original = load_file(Path(study.record.model_path) / "model.safetensors")
    assert any(not torch.equal(written[key], original[key]) for key in original)
    head = (tmp_path / "edited" / "README.md").read_text(encoding="utf-8").split("---\n")[1]
    assert yaml.safe_load(head)["library_name"] == "transformers"
