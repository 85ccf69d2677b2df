"""Reads records of version 1, whose metrics were fields, and writes the keys that readers of that version expect.

Version 1 had three metrics with fixed names, which this module repeats. Their descriptions are those of their scorers.
"""

from collections.abc import Callable, Mapping
from typing import Any

REFUSALS, KL, OVER_REFUSALS = "refusals", "kl_divergence", "over_refusals"
TITLES = {
    REFUSALS: ("refusals", "refusals of bad prompts"),
    KL: ("KL", "KL divergence at the first token (nats)"),
    OVER_REFUSALS: ("over-refusals", "refusals of harmless prompts that look harmful"),
}
DETAILS = ("refusal_tokens", "probability")
KNOWN_BEFORE = KL
"""The user attribute of an enqueued trial whose KL divergence a preview had measured."""


def is_version_1(content: Any) -> bool:
    """Whether a baseline, a trial or a similar record is from before metrics were a table."""
    return isinstance(content, Mapping) and "metrics" not in content and REFUSALS in content


def upgraded(read: Callable[[Any], dict[str, Any]], content: Any) -> dict[str, Any]:
    """The fields that `read` finds in a record of version 1.

    Raises:
        ValueError: the record is damaged.
    """
    try:
        return read(content)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"damaged record of version 1 ({error!r})") from error


def baseline_fields(content: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `BaselineRecord`."""
    old = dict(content)
    refusals, prompts = old.pop(REFUSALS), old.pop("prompts")
    details = {key: value for key in DETAILS if (value := old.pop(key, None)) is not None}
    metrics = {
        REFUSALS: _described(REFUSALS, refusals, of=prompts, scale=max(1, refusals), details=details),
        KL: _described(KL, 0.0, scale=1.0),
    }
    over, harmless = old.pop(OVER_REFUSALS, None), old.pop("over_prompts", None)
    if over is not None:
        metrics[OVER_REFUSALS] = _described(OVER_REFUSALS, over, of=harmless or 0, scale=max(1, harmless or 0))
    return old | {"metrics": metrics}


def trial_fields(content: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `TrialRecord`."""
    old = dict(content)
    metrics: dict[str, Any] = {
        REFUSALS: {"value": old.pop(REFUSALS), "censored": old.pop("bound", False)},
        KL: {"value": old.pop(KL)},
    }
    over = old.pop(OVER_REFUSALS, None)
    if over is not None:
        metrics[OVER_REFUSALS] = {"value": over}
    return old | {"metrics": metrics}


def trial_keys(values: Mapping[str, float], pruned: bool) -> dict[str, Any]:
    """A trial's metrics under the keys of version 1."""
    return {**values, "bound": pruned}


def baseline_keys(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A baseline's metrics under the keys of version 1."""
    found: dict[str, Any] = {}
    for name, prompts in ((REFUSALS, "prompts"), (OVER_REFUSALS, "over_prompts")):
        if name in metrics:
            found |= {name: metrics[name]["value"], prompts: metrics[name].get("of")}
            found |= metrics[name].get("details", {})
    return found


def known_values(user_attributes: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of an enqueued trial that a preview had measured."""
    return {KL: user_attributes[KNOWN_BEFORE]} if KNOWN_BEFORE in user_attributes else {}


def _described(name: str, value: float, **fields: Any) -> dict[str, Any]:
    label, title = TITLES[name]
    return {"label": label, "title": title, "value": value, **fields}
