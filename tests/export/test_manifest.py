"""heretic.json, version 1: what others have written stays readable, and what is written is what was."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from heretic.export.manifest import MANIFEST, Manifest, manifest_of, write_manifest
from tests.support import study_toys as toys

GOLDEN = Path(__file__).parent / "golden"


def content() -> dict[str, Any]:
    read: dict[str, Any] = json.loads((GOLDEN / "manifest-1.json").read_text(encoding="utf-8"))
    return read


def test_what_is_written_now_is_what_version_1_wrote(tmp_path: Path) -> None:
    write_manifest(tmp_path, manifest_of(toys.trial(17, 3, 0.1234), toys.record()))
    assert json.loads((tmp_path / MANIFEST).read_text(encoding="utf-8")) == content()


def test_what_version_1_wrote_is_read() -> None:
    manifest = Manifest.model_validate(content())
    assert manifest == manifest_of(toys.trial(17, 3, 0.1234), toys.record())


def test_the_first_manifests_are_read() -> None:
    """They lack what a later version of the program added."""
    added = ("dtype", "response_prefix", "batch_size")
    manifest = Manifest.model_validate({key: value for key, value in content().items() if key not in added})
    assert (manifest.dtype, manifest.response_prefix, manifest.batch_size) == (None, None, 0)


@pytest.mark.parametrize("change", [{"version": 2}, {"unheard_of": 1}, {"trial": 3}])
def test_another_version_is_no_manifest(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Manifest.model_validate(content() | change)
