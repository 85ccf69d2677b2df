"""The split notation of the datasets library for rows in memory: `train[:400]`, `[100:200]`, `search[:10%]`."""

import re
from dataclasses import dataclass

from ..errors import PromptError

_NOTATION = re.compile(r"(?P<name>[\w.-]*)(\[(?P<start>-?\d+%?)?:(?P<stop>-?\d+%?)?\])?")


@dataclass(frozen=True, slots=True)
class Split:
    """A split's name ("" for none) and the rows of it that are asked for."""

    name: str
    start: str | None
    stop: str | None

    @property
    def asked(self) -> int | None:
        """How many rows are asked for by number; None where the notation does not say."""
        if self.stop is None or not self.stop.isdigit():
            return None
        start = self.start or "0"
        return int(self.stop) - int(start) if start.isdigit() else None

    def rows(self, count: int) -> range:
        """The indices meant among `count` rows."""
        return range(count)[_bound(self.start, count) : _bound(self.stop, count)]


def parse_split(text: str | None) -> Split:
    """Raises:
    PromptError: the notation is not one of these.
    """
    match = _NOTATION.fullmatch(text or "")
    if match is None:
        raise PromptError(
            f"Expected a split such as train, train[:400], [100:200] or [:10%], got {text!r}. Correct it."
        )
    return Split(match["name"], match["start"], match["stop"])


def _bound(text: str | None, count: int) -> int | None:
    if text is None:
        return None
    return round(int(text[:-1]) * count / 100) if text.endswith("%") else int(text)
