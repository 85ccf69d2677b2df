"""Reads held-out reports of version 1, whose prompt sets and metrics were fields."""

from collections.abc import Mapping
from typing import Any

REFUSALS, KL, OVER_REFUSALS = "refusals", "kl_divergence", "over_refusals"
SETS = {
    "good": ("good_heldout_prompts", "", ""),
    "bad": ("bad_heldout_prompts", "against_baseline", "markers_against_baseline"),
    "over_refusal": ("over_refusal_heldout_prompts", "over_refusal_against_baseline", ""),
}
"""By the prefix of the fields of a set: its key, and the fields of its paired tests."""


def is_version_1(content: Any) -> bool:
    return isinstance(content, Mapping) and content.get("version", 1) == 1 and "flattery" in content


def report_fields(content: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `HeldoutReport`."""
    old = dict(content)
    bias = old.pop("flattery")
    return old | {
        "version": 2,
        "baseline": _model(old["baseline"]),
        "candidates": [_model(each) for each in old["candidates"]],
        "selection_bias": None if bias is None else _bias(bias),
    }


def _model(content: Mapping[str, Any]) -> dict[str, Any]:
    old = dict(content)
    sets: dict[str, Any] = {}
    for prefix, (key, declined, markers) in SETS.items():
        classes, responses = old.pop(prefix), old.pop(f"{prefix}_responses")
        tests = {
            "declined_against_baseline": old.pop(declined, None),
            "markers_against_baseline": old.pop(markers, None),
        }
        if classes is not None:
            sets[key] = {"classes": classes, "responses": responses, **tests}
    return old | {"sets": sets, "search": _search(old.pop("search"))}


def _search(content: Mapping[str, Any] | None) -> dict[str, Any]:
    """Counts were rates: their prompts are known from the study's baseline."""
    if content is None:
        return {}
    metrics: dict[str, Any] = {
        REFUSALS: {"value": content[REFUSALS]["count"]},
        KL: {"value": content[KL]},
    }
    over = content.get(OVER_REFUSALS)
    return metrics | ({} if over is None else {OVER_REFUSALS: {"value": over["count"]}})


def _bias(content: Mapping[str, Any]) -> dict[str, Any]:
    refusals = {
        "searched": content["refusals_searched"],
        "heldout": content["refusals_reported"],
        "baseline_searched": content["baseline_searched"],
        "baseline_heldout": content["baseline_reported"],
    }
    kl = {"searched": content["kl_searched"], "heldout": content["kl_reported"]}
    unknown = {"baseline_searched": None, "baseline_heldout": None}
    return {"trials": content["trials"], "metrics": {REFUSALS: refusals, KL: kl | unknown}}
