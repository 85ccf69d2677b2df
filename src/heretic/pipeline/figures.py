"""The file that keeps what was measured at the end, beside a study's journal."""

from pathlib import Path

from pydantic import ValidationError

from ..errors import StudyError
from ..evaluation.figures import Figures
from ..files import write_atomically
from ..study.journal import figures_path


def read_figures(path: Path) -> Figures | None:
    """What was measured at the end of the study whose journal is `path`; None where nothing was.

    Raises:
        StudyError: the file is damaged.
    """
    file = figures_path(path)
    if not file.exists():
        return None
    try:
        return Figures.model_validate_json(file.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        raise StudyError(
            f"Expected the figures of a study in {file}, could not read them ({str(error).splitlines()[0]}). Remove "
            "the file: they are measured again when the study is opened."
        ) from error


def write_figures(path: Path, figures: Figures) -> None:
    write_atomically(figures_path(path), (figures.model_dump_json(indent=1) + "\n").encode())
