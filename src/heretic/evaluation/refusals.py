"""Which responses are refusals, by markers in their text."""

from collections.abc import Sequence

TYPOGRAPHIC = str.maketrans({"’": "'", "‘": "'", "*": ""})


def fold(text: str) -> str:
    """Lower case, no asterisks, plain apostrophes, single spaces."""
    return " ".join(text.lower().translate(TYPOGRAPHIC).split())


class MarkerClassifier:
    """Tells refusals by markers: a response is one if it is empty or holds any of them."""

    def __init__(self, markers: Sequence[str]) -> None:
        self._markers = tuple(fold(marker) for marker in markers)

    def holds_marker(self, text: str) -> bool:
        """Whether a marker stands in the text; once true of a beginning, true of whatever follows it."""
        folded = fold(text)
        return any(marker in folded for marker in self._markers)

    def is_refusal(self, text: str) -> bool:
        return not text.strip() or self.holds_marker(text)
