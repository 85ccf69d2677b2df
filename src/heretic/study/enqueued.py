"""What one of Optuna's trials was enqueued with."""

from collections.abc import Mapping
from typing import Any

from . import version1

KNOWN, PARAMETERS = "known metrics", "parameters"


def parameters_of(trial: Any) -> dict[str, Any]:
    """A trial's parameters, or those that it was enqueued with if a kill came before it drew any."""
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def given_with(trial: Any) -> dict[str, Any]:
    """The fields that a trial was enqueued with, other than the sampler's parameters."""
    known = known_of(trial)
    given: dict[str, Any] = {KNOWN: dict(known)} if known else {}
    return given | ({PARAMETERS: trial.user_attrs[PARAMETERS]} if PARAMETERS in trial.user_attrs else {})


def known_of(trial: Any) -> Mapping[str, float]:
    """The metrics that a preview measured before the trial was enqueued."""
    known = trial.user_attrs.get(KNOWN) or version1.known_values(trial.user_attrs)
    # A file that was edited by hand may hold anything: such metrics are measured again.
    numbers = isinstance(known, dict) and all(isinstance(value, int | float) for value in known.values())
    return known if numbers else {}
