"""Changed settings are validated, and what was not set stays so."""

import pytest

from heretic.config import Settings
from heretic.config.changes import changed
from heretic.errors import ConfigError


def test_only_what_changes_is_set() -> None:
    given = Settings(n_trials=7)
    found = changed(given, {"heldout_trials": 3})
    assert (found.n_trials, found.heldout_trials) == (7, 3)
    assert found.model_fields_set == {"n_trials", "heldout_trials"}
    assert changed(given, {}) == given
    assert "heldout_trials" not in changed(given, {"seed": 1}).model_fields_set


def test_a_change_that_can_not_be_used_names_its_place() -> None:
    with pytest.raises(ConfigError, match="the record"):
        changed(Settings(), {"n_trials": -1}, "the record")
