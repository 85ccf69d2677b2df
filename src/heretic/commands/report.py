"""The report of a recorded study: what is there already, and what its model still has to be asked."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor

from .. import __version__
from ..ablation.residuals import winsorize
from ..config import Settings
from ..engine.local import LocalEngine
from ..events import Reporter
from ..files import write_atomically
from ..prompts.prompt import PromptSet
from ..report.data import Report, report_of
from ..report.page import check_page, render
from ..report.residuals import ResidualFigures, residual_figures
from ..session.directions import mean_residuals, read_tensors
from ..session.engine import open_engine
from ..session.heldout_sidecar import read_figures
from ..session.prompt_filter import filter_direction_prompts
from ..session.prompts import RunPrompts
from ..session.recorded import recorded_settings, runtime_of
from ..session.save import checkpoint_of
from ..session.sidecars import read_sidecar, write_sidecar
from ..study.journal import residuals_path, tensors_path
from ..study.reader import RecordedStudy
from .benchmark import read_benchmarks
from .export import recorded_prompts


def write_report(
    study: RecordedStudy, page: Path | None, measure: Callable[[], ResidualFigures] | None, reporter: Reporter
) -> tuple[Path, Path]:
    """Writes the page and, beside it, the JSON file; returns both paths. By default they stand beside the study.

    Residuals are measured once and kept beside the study; without `measure`, only kept ones are shown.

    Raises:
        ConfigError: a package is missing.
        StudyError: a file of the study is damaged.
    """
    check_page()
    page = page or study.path.with_suffix(".report.html")
    residuals = read_residuals(study)
    if residuals is None and measure is not None:
        residuals = measure()
        write_sidecar(residuals_path(study.path), residuals)
    report = make_report(study, residuals)
    data = page.with_suffix(".json")
    write_sidecar(data, report)
    write_atomically(page, render(report).encode())
    reporter.say(f"Report: {page} (open it in a browser), and as data {data}")
    return page, data


def make_report(study: RecordedStudy, residuals: ResidualFigures | None = None) -> Report:
    """The report of what is on disk, `residuals` included if they are given."""
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return report_of(study, created, __version__, read_figures(study.path), residuals, read_benchmarks(study.path))


def read_residuals(study: RecordedStudy) -> ResidualFigures | None:
    """Figures of the residuals that were measured before; None where none were, or of another model or prompts.

    Raises:
        StudyError: the file is damaged.
    """
    remedy = ": they are measured again"
    residuals = read_sidecar(residuals_path(study.path), ResidualFigures, "the figures of residuals", remedy)
    if residuals is None:
        return None
    same = (residuals.model_digest, residuals.prompt_digests) == (study.record.model_digest, _digests(study))
    return residuals if same else None


def load_and_measure(study: RecordedStudy, settings: Settings, reporter: Reporter) -> ResidualFigures:
    """Loads the study's model first.

    Raises:
        ModelError: the model can't be loaded.
        ExportError: another model is there now.
        PromptError: the prompts are others now.
    """
    record = study.record
    prompts = recorded_prompts(record)
    settings = recorded_settings(record, settings)
    engine = open_engine(checkpoint_of(record), settings, [], runtime_of(record), reporter)
    return measure_residuals(study, engine, prompts, settings, reporter)


def measure_residuals(
    study: RecordedStudy, engine: LocalEngine, prompts: RunPrompts, settings: Settings, reporter: Reporter
) -> ResidualFigures:
    """Runs the direction prompts through the model of `engine`, which is the study's."""
    directions = read_tensors(tensors_path(study.path)).directions
    prompts = filter_direction_prompts(prompts, study.record.telling)
    good, bad = (
        _residuals(engine, each, settings, side, reporter)
        for each, side in ((prompts.good, "good"), (prompts.bad, "bad"))
    )
    with reporter.step("Geometry and projection of the residuals"):
        return residual_figures(good, bad, directions, study.record.model_digest, _digests(study))


def _residuals(engine: LocalEngine, prompts: PromptSet, settings: Settings, side: str, reporter: Reporter) -> Tensor:
    """(prompt, residual, d_model), as the directions saw them."""
    rows: dict[int, Tensor] = {}

    def keep(_: str, indices: Sequence[int], residuals: Tensor) -> None:
        clamped = winsorize(residuals.float().cpu(), settings.winsorization_quantile)
        rows.update(zip(indices, clamped, strict=True))

    mean_residuals(engine, prompts, settings, side, reporter, keep)
    return torch.stack([rows[index] for index in sorted(rows)])


def _digests(study: RecordedStudy) -> tuple[str, str]:
    prompts = study.record.prompts
    return prompts["good_prompts"].digest, prompts["bad_prompts"].digest
