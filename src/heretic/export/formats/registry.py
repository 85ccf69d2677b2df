"""All export formats: a new one is a class in a file of its own, an entry here and a choice of the setting `export`."""

from ...errors import ExportError
from .adapter import Adapter
from .base import ExportFormat
from .gguf import Gguf
from .merge import Merge

FORMATS: tuple[ExportFormat, ...] = (Merge(), Adapter(), Gguf())
"""In the order of menus."""


def find_format(name: str) -> ExportFormat:
    """The format that the setting `export` names.

    Raises:
        ExportError: there is none of that name.
    """
    for each in FORMATS:
        if each.name == name:
            return each
    raise ExportError(f"Expected an export format ({', '.join(each.name for each in FORMATS)}), got {name}.")
