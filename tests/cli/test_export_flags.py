"""Flags about an export that would be ignored are refused; keys of a configuration file are not."""

import pytest

from heretic.cli.export_flags import check_export_flags
from heretic.config import ExportSettings
from heretic.errors import ConfigError


@pytest.mark.parametrize(
    ("given", "form", "words"),
    [
        ({"gguf_type": "Q8_0"}, "merge", "--gguf-type has no effect on the format merge: give --export gguf"),
        ({"imatrix": "a.dat"}, "adapter", "--imatrix has no effect on the format adapter"),
        ({"max_shard_size": "1GB"}, "gguf", "--max-shard-size has no effect on the format gguf: give --export merge"),
        ({"gguf_type": "Q8_0"}, None, "nothing is exported: give --export gguf too"),
        ({"base_model": "a/b"}, None, "nothing is exported: give --export or --output too"),
        ({"output": "x", "export": "none"}, None, "leave --export none out"),
        ({"upload_public": True}, "merge", "--public has no effect without --upload"),
    ],
)
def test_a_flag_without_effect_is_refused(given: dict[str, str | bool], form: str | None, words: str) -> None:
    settings = ExportSettings.model_validate(given)
    with pytest.raises(ConfigError) as refused:
        check_export_flags(given, settings, form)
    assert words in str(refused.value)
    # A menu can still choose a format, and a file holds keys for several runs.
    check_export_flags(given, settings, form, asks=True)
    check_export_flags({}, settings, form)


@pytest.mark.parametrize(
    ("given", "form"),
    [
        ({"gguf_type": "q4_k_m", "output": "x"}, "gguf"),
        ({"max_shard_size": "1GB", "base_model": "a/b", "output": "x"}, "merge"),
        ({"upload": "a/b", "upload_public": True}, "adapter"),
        ({"trial": "knee", "export": "none"}, None),
    ],
)
def test_others_are_not(given: dict[str, str | bool], form: str | None) -> None:
    settings = ExportSettings.model_validate(given)
    check_export_flags(given, settings, form)
    assert settings.gguf_type in ("same", "Q4_K_M")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [({}, None), ({"output": "x"}, "merge"), ({"upload": "a/b"}, "merge"), ({"export": "gguf", "output": "x"}, "gguf")],
)
def test_a_place_alone_asks_for_the_whole_model(given: dict[str, str], wanted: str | None) -> None:
    assert ExportSettings.model_validate(given).wanted == wanted
