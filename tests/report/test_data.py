"""The JSON of a report, version 1: what others have written stays readable, and what is written is what was."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from heretic.config import renamed_keys
from heretic.report.data import Report

GOLDEN = Path(__file__).parent / "golden"


def content() -> dict[str, Any]:
    """A report of a small study of the planted model: three objectives, telling prompts, residuals, a failed trial."""
    read: dict[str, Any] = json.loads((GOLDEN / "report-1.json").read_text(encoding="utf-8"))
    return read


def with_current_keys(value: Any) -> Any:
    """`value` with former names of configuration keys replaced, at any depth that holds settings or prompts."""
    if not isinstance(value, dict):
        return [with_current_keys(item) for item in value] if isinstance(value, list) else value
    inner = {key: with_current_keys(item) for key, item in value.items()}
    return inner | {
        key: renamed_keys(inner[key]) for key in ("settings", "prompts") if isinstance(inner.get(key), dict)
    }


def test_what_version_1_wrote_is_read_and_written_as_it_was_but_for_renamed_keys() -> None:
    assert with_current_keys(content()) != content()
    assert json.loads(Report.model_validate(content()).model_dump_json()) == with_current_keys(content())


def test_the_schema_is_that_of_version_1() -> None:
    """Where this fails, the format has changed. A field that is new and may be missing belongs into the golden schema;
    any other change is another version, with a golden file of its own, and this one stays readable or is refused."""
    schema = json.loads((GOLDEN / "report-1.schema.json").read_text(encoding="utf-8"))
    assert Report.model_json_schema() == schema


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
