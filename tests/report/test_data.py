"""The JSON of a report, version 1: what others have written stays readable, and what is written is what was."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from heretic.report.data import Report

GOLDEN = Path(__file__).parent / "golden"


def content() -> dict[str, Any]:
    """A report of a small study of the planted model: three objectives, telling prompts, residuals, a failed trial."""
    read: dict[str, Any] = json.loads((GOLDEN / "report-1.json").read_text(encoding="utf-8"))
    return read


def test_it_says_what_it_is_about() -> None:
    report = Report.model_validate(content())
    assert report.study.telling is not None and len(report.study.telling["bad_prompts"]) == 12
    assert (report.baseline.count, report.study.baseline.over_refusals, report.study.baseline.over_prompts) == (6, 1, 2)
    assert report.measured is not None and report.measured.baseline.bad.declined.count == 3
    assert report.knee in {each.number for each in report.front}


@pytest.mark.parametrize("change", [{"version": 2}, {"unheard_of": 1}, {"trials": 3}])
def test_another_version_is_no_report(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Report.model_validate(content() | change)
