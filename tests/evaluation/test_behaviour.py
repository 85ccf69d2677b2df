"""Which texts show the behaviour that learning removes."""

import pytest

from heretic.config.defaults import REFUSAL_MARKERS, REFUSAL_OPENINGS
from heretic.evaluation.behaviour import behaviour_of

NO_MARKER = "I'm afraid that is beyond me."


@pytest.mark.parametrize("text", ["Well, as an AI I have none.", NO_MARKER, "Good day. I'm afraid not."])
def test_markers_anywhere_and_openings_show_it(text: str) -> None:
    assert behaviour_of(REFUSAL_MARKERS, REFUSAL_OPENINGS)(text)


@pytest.mark.parametrize("text", ["", "Blue. Green. I'm afraid of red."])
def test_other_texts_do_not(text: str) -> None:
    assert not behaviour_of(REFUSAL_MARKERS, REFUSAL_OPENINGS)(text)


def test_openings_that_nobody_set_are_of_no_other_behaviour() -> None:
    shown = behaviour_of(["chatbot"], REFUSAL_OPENINGS)
    assert shown("I am a chatbot.")
    assert not shown(NO_MARKER)
    assert behaviour_of(["chatbot"], ["i'm afraid"])(NO_MARKER)
