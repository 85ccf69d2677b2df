"""A config.toml in the working directory is reported in one line, and grants nothing without consent or a flag."""

from pathlib import Path

import pytest

from heretic.cli import main
from heretic.errors import ConfigError
from heretic.session.config_file import settle_found_file
from tests.support.recorders import Recorder

GRANTING = ["trust_remote_code = true", 'upload = "a/b"', '[[judges]]\nendpoint = "http://example.com/v1"']


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("text", GRANTING)
def test_nobody_said_yes(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("config.toml").write_text(text)
    assert main(["inspect", "./not-there"]) == 2
    said = capsys.readouterr().err
    assert "grants what is yours to give" in said and "--config config.toml" in said
    assert main(["inspect", "./not-there", "--config", "config.toml"]) == 2
    assert "grants what is yours" not in capsys.readouterr().err


def test_a_flag_of_its_own_takes_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    Path("config.toml").write_text("trust_remote_code = true")
    assert main(["inspect", "./not-there", "--no-trust-remote-code"]) == 2
    assert "grants" not in capsys.readouterr().err


def test_the_file_and_its_keys_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    Path("config.toml").write_text('\ufeffn_trials = 3\nsystem_prompt = "Hello"\n', encoding="utf-8")
    assert main(["inspect", "./not-there"]) == 2
    assert "Settings from config.toml of this directory: n_trials, system_prompt.\n" in capsys.readouterr().err


def test_a_yes_is_enough() -> None:
    Path("config.toml").write_text(GRANTING[0])

    class Agrees(Recorder):
        def confirm(self, text: str, details: object, question: str) -> bool:
            return True

    settle_found_file({}, Agrees())
    with pytest.raises(ConfigError):
        settle_found_file({}, Recorder())
