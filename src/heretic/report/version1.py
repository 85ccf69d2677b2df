"""Reads reports of version 1, whose metrics were fields. Records inside them read their own old form."""

from collections.abc import Mapping
from typing import Any

from ..study import version1 as study_version1


def is_version_1(content: Any) -> bool:
    return isinstance(content, Mapping) and content.get("version", 1) == 1 and "baseline" in content


def report_fields(content: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `Report`."""
    old = dict(content)
    # The study's record holds it too.
    old.pop("baseline")
    front = [{"number": each["number"], "strengths": each["strengths"]} for each in old["front"]]
    trials = [study_version1.trial_fields(each) for each in old["trials"]]
    return old | {"version": 2, "front": front, "trials": trials}
