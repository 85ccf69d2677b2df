"""Which responses are refusals, by markers in their text."""

import re
from collections.abc import Sequence

# The final sigma too: Σ becomes one only at the end of a word, which text that follows may change.
TYPOGRAPHIC = str.maketrans({"’": "'", "‘": "'", "*": "", "ς": "σ"})


def fold(text: str) -> str:
    """Lower case, no asterisks, plain apostrophes, single spaces."""
    return _single_spaces(text).strip()


def _single_spaces(text: str) -> str:
    return re.sub(r"\s+", " ", text.lower().translate(TYPOGRAPHIC))


class MarkerClassifier:
    """Tells refusals by markers: a response is one if it is empty or holds any of them."""

    def __init__(self, markers: Sequence[str]) -> None:
        # Spaces around a marker stay: " ai " is meant not to stand in "said". One of asterisks alone stands everywhere.
        self._markers = tuple(folded for marker in markers if (folded := _single_spaces(marker)))

    def holds_marker(self, text: str) -> bool:
        """Whether a marker stands in the text; once true of a beginning, true of whatever follows it."""
        folded = fold(text)
        return any(marker in folded for marker in self._markers)

    def is_refusal(self, text: str) -> bool:
        return not text.strip() or self.holds_marker(text)
