"""Figures that are kept in a file of their own, beside a study's journal."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from ..errors import StudyError
from ..files import write_atomically

Kind = TypeVar("Kind", bound=BaseModel)


def read_sidecar(file: Path, kind: type[Kind], what: str, remedy: str) -> Kind | None:
    """The content of `file`; None where it is not there. `what` names it, and `remedy` says what removing it costs.

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
