"""Responses as lines: marked, whole, and unable to move the cursor."""

from heretic.report.responses import response_lines


def test_a_response_is_marked_and_indented() -> None:
    assert response_lines("Why?", "One.\nTwo.", "answer", True) == "  [answer] Why?\n    One.\n    Two."
    assert response_lines("Why?", "No", "refusal", False) == "  [refusal] Why?\n    No\n    ..."
    assert response_lines("Why?", " \n", "refusal", True) == "  [refusal] Why?\n    (nothing)"


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert "\x1b" not in response_lines("\x1b[1m", "\x1b[2J", "answer", True)
