"""A recorded study by its name."""

from pathlib import Path

from ..errors import StudyError
from ..files import expand_home
from .journal import study_path
from .reader import RecordedStudy
from .shared import copy_of, is_address


def find_study(name: str | None, directory: Path) -> RecordedStudy:
    """A recorded study by name: the path of a journal, a model with a study in `directory`, or None for its only study.
    A shared storage's address gives a copy in `directory`.

    Raises:
        StudyError: the directory does not hold exactly one study.
    """
    if name is not None and is_address(name):
        return RecordedStudy(copy_of(name, directory))
    if name is not None:
        path = expand_home(name)
        return RecordedStudy(path if path.suffix == ".jsonl" else study_path(directory, name))
    found = [path for path in sorted(directory.glob("*.jsonl")) if "." not in path.stem]
    if len(found) == 1:
        return RecordedStudy(found[0])
    listing = f" Studies there: {', '.join(map(str, found))}." if found else ""
    raise StudyError(f"Expected the name of a study, since {directory} holds {len(found)} of them.{listing}")
