"""What an unnamed config.toml sets and would grant is known, whatever of it flags and variables replace."""

from pathlib import Path

import pytest

from heretic.config.found_file import FoundFile, found_file

GRANTING = {
    "trust_remote_code = true": "model may run",
    'trust_remote_code = "true"': "model may run",
    'upload = "somebody/model"': "somebody/model",
    '[[judges]]\nendpoint = "http://example.com/v1"\nkey_variable = "AWS_SECRET"': "$AWS_SECRET",
    '[[judges]]\nendpoint = "http://example.com/v1"': "example.com",
    '[[benchmarks]]\ntask = "task.yaml"\nname = "x"': "may run code",
}
HARMLESS = ["n_trials = 3", "trust_remote_code = false", 'upload = "none"', "judges = []", "upload_public = true"]


def of(text: str, *overridden: str) -> FoundFile:
    Path("config.toml").write_text(text)
    found = found_file(overridden)
    assert found is not None
    return found


@pytest.mark.parametrize("text", GRANTING)
def test_what_it_grants_is_named(text: str) -> None:
    [grant] = of(text).grants
    assert GRANTING[text] in grant


@pytest.mark.parametrize("text", HARMLESS)
def test_other_keys_grant_nothing(text: str) -> None:
    assert of(text).grants == ()
    assert len(of(text).keys) == 1


def test_what_flags_and_variables_replace_grants_nothing() -> None:
    text = 'upload = "a/b"\ntrust_remote_code = true\nn_trials = 3'
    assert of(text, "upload", "HERETIC_TRUST_REMOTE_CODE") == FoundFile(Path("config.toml"), ("n_trials",), ())


def test_no_file_and_an_unreadable_one() -> None:
    assert found_file(()) is None
    Path("config.toml").write_text("[" * 100_000)
    assert found_file(()) is None
