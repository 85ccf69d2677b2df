"""heretic.json: what earlier versions wrote is read, and what is written is version 2."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from heretic.export.manifest import MANIFEST, Manifest, manifest_of, recorded_template, write_manifest
from tests.support import study_toys as toys

GOLDEN = Path(__file__).parent / "golden"


def content(version: int = 2) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((GOLDEN / f"manifest-{version}.json").read_text(encoding="utf-8"))
    return read


def test_what_is_written_is_version_2(tmp_path: Path) -> None:
    write_manifest(tmp_path, manifest_of(toys.trial(17, 3, 0.1234), toys.record()))
    assert json.loads((tmp_path / MANIFEST).read_text(encoding="utf-8")) == content()


@pytest.mark.parametrize("version", [1, 2])
def test_every_version_is_read(version: int) -> None:
    manifest = Manifest.model_validate(content(version))
    assert manifest.version == version
    assert manifest.model_copy(update={"version": 2}) == manifest_of(toys.trial(17, 3, 0.1234), toys.record())


def test_the_first_manifests_are_read() -> None:
    """They lack what a later version of the program added."""
    added = ("dtype", "response_prefix", "batch_size")
    manifest = Manifest.model_validate({key: value for key, value in content(1).items() if key not in added})
    assert (manifest.dtype, manifest.response_prefix, manifest.batch_size) == (None, None, 0)


@pytest.mark.parametrize("change", [{"version": 3}, {"unheard_of": 1}, {"trial": 3}])
def test_another_version_is_no_manifest(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Manifest.model_validate(content() | change)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"settings": []}', '{"settings": {"seed": 1}}'])
def test_what_records_no_arguments_of_a_template_gives_none(content: str, tmp_path: Path) -> None:
    assert recorded_template(tmp_path) == {}
    (tmp_path / "heretic.json").write_text(content)
    assert recorded_template(tmp_path) == {}


def test_what_the_chat_template_was_given_is_read_back(tmp_path: Path) -> None:
    given = {"chat_template_arguments": {"thinking": False}, "chat_template_date": "2026-01-31"}
    (tmp_path / "heretic.json").write_text(json.dumps({"settings": {"seed": 1, **given}}))
    assert recorded_template(tmp_path) == given
