"""The file that keeps what was measured at the end, beside a study's journal."""

from pathlib import Path

from ..evaluation.heldout.schema import HeldoutReport
from ..study.journal import figures_path
from .sidecars import read_sidecar, write_sidecar


def read_figures(path: Path) -> HeldoutReport | None:
    """What was measured at the end of the study whose journal is `path`; None where nothing was.

    Raises:
        StudyError: the file is damaged.
    """
    remedy = ": they are measured again when the study is opened"
    return read_sidecar(figures_path(path), HeldoutReport, "the figures of a study", remedy)


def write_figures(path: Path, figures: HeldoutReport) -> None:
    write_sidecar(figures_path(path), figures)
