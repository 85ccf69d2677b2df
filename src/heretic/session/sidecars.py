"""Files next to a study's journal: each holds one kind of measurement."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from ..benchmark.schema import BenchmarkResults
from ..errors import StudyError
from ..evaluation.heldout.schema import HeldoutReport
from ..files import write_atomically
from ..report.residuals import ResidualMetrics
from ..study.journal import benchmarks_path, heldout_path, old_heldout_path, residuals_path

Kind = TypeVar("Kind", bound=BaseModel)


def read_sidecar(file: Path, kind: type[Kind], what: str, remedy: str) -> Kind | None:
    """The content of `file`, or None if it does not exist. Errors name it `what`; `remedy` says what deleting it costs.

    Raises:
        StudyError: the file is damaged.
    """
    if not file.exists():
        return None
    try:
        return kind.model_validate_json(file.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        raise StudyError(
            f"Expected {what} in {file}, could not read them ({str(error).splitlines()[0]}). Remove the file{remedy}."
        ) from error


def write_sidecar(file: Path, content: BaseModel) -> None:
    write_atomically(file, (content.model_dump_json(indent=1) + "\n").encode())


def read_heldout_report(path: Path) -> HeldoutReport | None:
    """The held-out metrics of the study whose journal is `path`; None before they are measured.

    Raises:
        StudyError: the file is damaged.
    """
    remedy = ": they are measured again when the study is opened"
    file = heldout_path(path)
    found = file if file.exists() else old_heldout_path(path)
    return read_sidecar(found, HeldoutReport, "the held-out metrics of a study", remedy)


def write_heldout_report(path: Path, report: HeldoutReport) -> None:
    write_sidecar(heldout_path(path), report)
    old_heldout_path(path).unlink(missing_ok=True)


def read_residuals(path: Path) -> ResidualMetrics | None:
    """The residual metrics of the study whose journal is `path`; None before they are measured.

    Raises:
        StudyError: the file is damaged.
    """
    return read_sidecar(residuals_path(path), ResidualMetrics, "the metrics of residuals", ": they are measured again")


def read_benchmarks(path: Path) -> BenchmarkResults | None:
    """The benchmark results of the study whose journal is `path`; None where none ran.

    Raises:
        StudyError: the file is damaged.
    """
    return read_sidecar(benchmarks_path(path), BenchmarkResults, "benchmark results", ", and run them again")
