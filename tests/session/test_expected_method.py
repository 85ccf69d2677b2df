"""The method of a run before its model is loaded."""

from types import SimpleNamespace
from typing import Any

import pytest

from heretic.config import Settings
from heretic.session.expected_method import expected_method, kernel_reason


@pytest.mark.parametrize(
    ("given", "method"),
    [
        ({}, "learned"),
        ({"n_trials": 40, "seed": 3, "prune_dominated": False}, "learned"),
        ({"sampler": "random"}, "kernel"),
        ({"n_startup_trials": 60}, "kernel"),
        ({"row_normalization": "pre"}, "kernel"),
        ({"storage": "sqlite:///x"}, "kernel"),
        ({"n_startup_trials": 60, "method": "auto"}, "learned"),
        ({"n_startup_trials": 60, "method": "oblique"}, "oblique"),
    ],
)
def test_who_sets_up_a_sampler_gets_the_kernel_method(given: dict[str, Any], method: str) -> None:
    settings = Settings(**given)
    assert expected_method(settings, None) == method
    assert (kernel_reason(settings) is None) == (method != "kernel")


def test_a_study_keeps_its_method_unless_another_is_asked_for() -> None:
    learned: Any = SimpleNamespace(settings={"method": "learned"})
    old: Any = SimpleNamespace(settings={})
    assert expected_method(Settings(sampler="random"), learned) == "learned"
    assert expected_method(Settings(), old) == "kernel"
    assert expected_method(Settings(method="oblique"), learned) == "oblique"
