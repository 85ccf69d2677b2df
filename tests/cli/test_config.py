"""heretic config prints a configuration file."""

import tomllib

import pytest

from heretic.cli import main
from heretic.config.document import document


def test_the_documented_defaults_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config"]) == 0
    printed = capsys.readouterr().out
    assert printed == document()
    assert tomllib.loads(printed)["n_trials"] == 200
