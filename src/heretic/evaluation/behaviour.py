"""Whether a text shows the behaviour that is to be removed, by every classifier of a run."""

from collections.abc import Callable, Sequence

from ..config.defaults import REFUSAL_MARKERS, REFUSAL_OPENINGS
from .heldout.response_classes import ResponseClassifier
from .scorers.refusals import MarkerClassifier


def behaviour_of(markers: Sequence[str], openings: Sequence[str]) -> Callable[[str], bool]:
    """A function that returns whether a text holds a marker, or begins as a refusal of the held-out evaluation does.

    The search counts markers alone: an edit that is trained against them finds other words, and openings know some of
    those. Openings that nobody set don't count next to markers that somebody did, which are of another behaviour.
    """
    holds_marker = MarkerClassifier(markers).holds_marker
    if tuple(openings) == REFUSAL_OPENINGS and tuple(markers) != REFUSAL_MARKERS:
        return holds_marker
    opens = ResponseClassifier(openings, markers).opens_as_refusal
    return lambda text: holds_marker(text) or opens(text)
