"""Writes the report of a recorded study, and measures the residuals that it shows."""

import os
from collections.abc import Callable
from pathlib import Path

from ..engine.local import LocalEngine
from ..errors import ConfigError
from ..events import Reporter
from ..files import write_atomically
from ..report.page import check_page, render
from ..report.residuals import ResidualMetrics, residual_metrics
from ..session.context import Session
from ..session.directions import collect_residuals, read_tensors
from ..session.prompt_filter import filter_direction_prompts
from ..session.recorded import load_engine
from ..session.recorded_run import recorded_report
from ..session.sidecars import read_residuals, write_sidecar
from ..study.journal import residuals_path, tensors_path
from ..study.reader import RecordedStudy
from ..study.schema import StudyRecord


def write_report(
    study: RecordedStudy, page: Path | None, measure: Callable[[], ResidualMetrics] | None, reporter: Reporter
) -> tuple[Path, Path]:
    """Writes the page and its JSON file; returns both paths. By default they lie next to the journal.

    Residuals are measured once and kept next to the journal; without `measure`, only kept ones are shown.

    Raises:
        ConfigError: a package is missing.
        StudyError: a file of the study is damaged.
    """
    check_page()
    if page is not None:
        check_new_page(page)
    page = page or study.path.with_suffix(".report.html")
    residuals = kept_residuals(study)
    if residuals is None and measure is not None:
        residuals = measure()
        write_sidecar(residuals_path(study.path), residuals)
    report = recorded_report(study, residuals)
    data = page.with_suffix(".json")
    write_sidecar(data, report)
    write_atomically(page, render(report).encode())
    reporter.say(f"Report: {page} (open it in a browser), and as data {data}")
    return page, data


def check_new_page(page: Path) -> None:
    """Raises:
    ConfigError: the page, or its JSON file, would take the place of a file.
    """
    data = page.with_suffix(".json")
    if data == page:
        raise ConfigError(f"Expected the name of a page, got {page}, which is that of its JSON file. Name it .html.")
    for path in (page, data):
        if os.path.lexists(path):
            raise ConfigError(
                f"{path} exists already and is not overwritten. Name another page with --page, or remove this file. "
                "Without --page, the report is next to the study, where each new one replaces the last."
            )


def kept_residuals(study: RecordedStudy) -> ResidualMetrics | None:
    """The residual metrics next to the journal; None if there are none of this model and these prompts.

    Raises:
        StudyError: the file is damaged.
    """
    residuals = read_residuals(study.path)
    if residuals is None:
        return None
    same = (residuals.model_digest, residuals.prompt_digests) == (study.record.model_digest, _digests(study.record))
    return residuals if same else None


def load_and_measure(session: Session, record: StudyRecord) -> ResidualMetrics:
    """Loads the model of a recorded study and measures its residuals.

    Raises:
        ModelError: the model can't be loaded.
    """
    return measure_residuals(session, load_engine(session, record), record)


def measure_residuals(session: Session, engine: LocalEngine, record: StudyRecord) -> ResidualMetrics:
    """Runs the direction prompts through the study's model."""
    directions = read_tensors(tensors_path(session.path)).directions
    prompts = filter_direction_prompts(session.prompts, record.telling)
    collected = collect_residuals(session, engine, prompts)
    good, bad = collected.residuals("good"), collected.residuals("bad")
    with session.reporter.step("Geometry and projection of the residuals"):
        return residual_metrics(good, bad, directions, record.model_digest, _digests(record))


def _digests(record: StudyRecord) -> tuple[str, str]:
    return record.prompts["good_prompts"].digest, record.prompts["bad_prompts"].digest
