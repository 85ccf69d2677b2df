"""The JSON of a report: reports of all versions stay readable, and the present version is written as it was."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from heretic.evaluation.heldout.schema import BAD, GOOD, OVER_REFUSAL
from heretic.report.data import Report

GOLDEN = Path(__file__).parent / "golden"


def content(version: int) -> dict[str, Any]:
    """A report of a small study of the planted model: three objectives, filtered prompts, residuals, a failed trial."""
    read: dict[str, Any] = json.loads((GOLDEN / f"report-{version}.json").read_text(encoding="utf-8"))
    return read


def test_a_report_of_version_1_holds_the_same_as_one_of_version_2() -> None:
    assert Report.model_validate(content(1)) == Report.model_validate(content(2))


def test_a_report_is_written_as_version_2() -> None:
    assert json.loads(Report.model_validate(content(2)).model_dump_json()) == content(2)


def without_descriptions(schema: Any) -> Any:
    """The schema without its prose, which may be rewritten."""
    if isinstance(schema, list):
        return [without_descriptions(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    prose = "description" in schema and isinstance(schema["description"], str)
    return {key: without_descriptions(value) for key, value in schema.items() if not (prose and key == "description")}


def test_the_schema_is_that_of_version_2() -> None:
    """A failure means that the format has changed. A new field that may be missing belongs into the golden schema; any
    other change is another version, with a golden file of its own, and former ones stay readable."""
    schema = json.loads((GOLDEN / "report-2.schema.json").read_text(encoding="utf-8"))
    assert without_descriptions(Report.model_json_schema()) == without_descriptions(schema)


@pytest.mark.parametrize("version", [1, 2])
def test_its_metrics_are_read(version: int) -> None:
    report = Report.model_validate(content(version))
    assert {name: (each.value, each.of) for name, each in report.baseline.metrics.items()} == {
        "refusals": (6, 6),
        "kl_divergence": (0, None),
        "over_refusals": (1, 2),
    }
    assert [each.number for each in report.front] == [17, 1] and report.knee == 17
    assert [report.trial(1).value(name) for name in report.baseline.metrics] == [6, 0, 1]
    assert report.importance is not None and set(report.importance) == set(report.baseline.metrics)


@pytest.mark.parametrize("version", [1, 2])
def test_its_heldout_metrics_are_read(version: int) -> None:
    measured = Report.model_validate(content(version)).measured
    assert measured is not None
    assert measured.baseline.sets[BAD].classes.declined.count == 3 and measured.baseline.search == {}
    best = measured.candidates[0]
    assert [best.sets[name].classes.declined.count for name in (BAD, GOOD, OVER_REFUSAL)] == [0, 0, 0]
    tests = best.sets[BAD].declined_against_baseline, best.sets[OVER_REFUSAL].declined_against_baseline
    assert [each.only_first for each in tests if each is not None] == [3, 1]
    assert {name: each.value for name, each in best.search.items()} == {
        "refusals": 0,
        "kl_divergence": 0.0,
        "over_refusals": 0,
    }
    assert len(best.sets[OVER_REFUSAL].responses) == 2
    assert measured.selection_bias is not None
    refusals = measured.selection_bias.metrics["refusals"]
    assert (refusals.searched, refusals.heldout, refusals.baseline_searched) == (0.5, 0.5, 1.0)


@pytest.mark.parametrize("change", [{"version": 3}, {"unheard_of": 1}, {"trials": 3}])
@pytest.mark.parametrize("version", [1, 2])
def test_another_version_is_no_report(version: int, change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Report.model_validate(content(version) | change)
