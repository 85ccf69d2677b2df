"""The menus on a real terminal: keys in, actions out."""

from pathlib import Path

import pytest

from tests.support.terminal import BACKSPACE, CTRL_C, DOWN, ENTER, ESCAPE, UP, Terminal, running

REPORT = (UP, UP)  # above "Back", the last
UPLOAD = (*REPORT, UP)
BENCHMARK = (*UPLOAD, UP)
NEXT = "tell(chooser.next_action(FRONT, BASELINE))\n"
RESUME = """
try:
    print("ANSWER " + json.dumps(chooser.resume({}, 200, "m.jsonl")) + " END")
except KeyboardInterrupt:
    print("ANSWER null END")
"""


def test_a_trial_is_chosen_and_saved_where_the_model_is_named_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with running(NEXT * 5) as terminal:
        terminal.see("Which trial?")
        terminal.see("Trial 123: refusals   0/100 (0-4 %)    KL 0.9000")
        terminal.see("Trial   8: refusals   4/100 (2-10 %)   KL 0.3000  * knee")
        # The cursor begins at the knee.
        terminal.type(ENTER)
        terminal.see("Trial 8: what next?")
        terminal.type(ENTER)
        terminal.see("model-heretic")
        terminal.type(ENTER)
        assert terminal.answer() == ["save", 8, "merge", "model-heretic", 0]
        # The chosen trial stays chosen.
        terminal.see("Trial 8: what next?")
        terminal.type(DOWN, ENTER)
        terminal.see("model-heretic-adapter")
        terminal.type(BACKSPACE * 3, "X", ENTER)
        assert terminal.answer() == ["save", 8, "adapter", "model-heretic-adapX", 0]
        terminal.see("Trial 8: what next?")
        terminal.type(ENTER)
        terminal.see("model-heretic")
        terminal.type(BACKSPACE * len("model-heretic"), "~/edited", ENTER)
        assert terminal.answer() == ["save", 8, "merge", str(tmp_path / "edited"), 0]
        terminal.see("Trial 8: what next?")
        terminal.type(DOWN, DOWN, ENTER)
        assert terminal.answer() == ["chat", 8, None, None, 0]
        terminal.see("Trial 8: what next?")
        terminal.type(*REPORT, ENTER)
        assert terminal.answer() == ["report", 8, None, None, 0]


def test_back_leads_to_the_front_and_leave_leaves() -> None:
    with running(NEXT * 2) as terminal:
        terminal.see("Which trial?")
        terminal.type(UP, ENTER)
        terminal.see("Trial 123: what next?")
        terminal.type(UP, ENTER)  # "Back" is the last
        terminal.see("Which trial?")
        terminal.type(DOWN, ENTER)
        terminal.see("Trial 1: what next?")
        terminal.type(ESCAPE)
        terminal.see("Which trial?")
        terminal.type(UP, UP, ENTER)
        assert terminal.answer() == ["leave", None, None, None, 0]
        terminal.see("Which trial?")
        terminal.type(ESCAPE)
        assert terminal.answer() == ["leave", None, None, None, 0]


def test_an_upload_is_private_unless_said_otherwise() -> None:
    with running(NEXT * 2) as terminal:
        terminal.see("Which trial?")
        terminal.type(ENTER)
        for keys, public in (((ENTER,), False), ((DOWN, ENTER), True)):
            terminal.see("what next?")
            terminal.type(*UPLOAD, ENTER)
            terminal.see("Upload what?")
            terminal.type(DOWN, ENTER)
            terminal.see("Repository (OWNER/NAME")
            terminal.type(BACKSPACE * len("model-heretic-adapter"), "me/edited", ENTER)
            terminal.see("Who may see it?")
            terminal.type(*keys)
            terminal.see("Directory to write to first")
            terminal.type(ENTER)
            assert terminal.answer() == ["upload", 8, "adapter", "model-heretic-adapter", 0, "me/edited", public]


def test_an_upload_can_be_cancelled_at_every_question() -> None:
    with running(NEXT) as terminal:
        terminal.see("Which trial?")
        terminal.type(ENTER)
        questions = ["Upload what?", "Repository (OWNER/NAME", "Who may see it?", "Directory to write to first"]
        for number in range(len(questions)):
            terminal.see("what next?")
            terminal.type(*UPLOAD, ENTER)
            for question in questions[:number]:
                terminal.see(question)
                terminal.type(ENTER)
            terminal.see(questions[number])
            terminal.type(ESCAPE)
        terminal.see("what next?")
        terminal.type(ESCAPE)
        terminal.see("Which trial?")
        terminal.type(ESCAPE)
        assert terminal.answer() == ["leave", None, None, None, 0]


def test_marked_benchmarks_run() -> None:
    with running(NEXT) as terminal:
        terminal.see("Which trial?")
        terminal.type(ENTER)
        terminal.see("what next?")
        terminal.type(*BENCHMARK, ENTER)
        terminal.see("Which benchmarks?")
        # Nothing marked is nothing to run.
        terminal.type(ENTER)
        terminal.see("what next?")
        terminal.type(*BENCHMARK, ENTER)
        terminal.see("Which benchmarks?")
        terminal.type(DOWN, " ", ENTER)
        assert terminal.answer() == ["benchmark", 8, None, None, 0, ["b"]]


def leave_every_question(terminal: Terminal, key: str) -> None:
    terminal.see("Which trial?")
    terminal.type(ENTER)
    terminal.see("what next?")
    terminal.type(ENTER)
    terminal.see("Directory to write to:")
    terminal.type(key)
    terminal.see("what next?")
    terminal.type(key)
    terminal.see("Which trial?")
    terminal.type(DOWN, DOWN, ENTER)
    terminal.see("How many more trials?")
    terminal.type(key)
    terminal.see("Which trial?")
    terminal.type(key)
    assert terminal.answer() == ["leave", None, None, None, 0]


def test_a_way_out_of_every_question() -> None:
    with running(NEXT * 2) as terminal:
        for key in (ESCAPE, CTRL_C):
            leave_every_question(terminal, key)


def test_the_number_of_more_trials_is_asked_for_until_it_is_one() -> None:
    with running(NEXT) as terminal:
        terminal.see("Which trial?")
        terminal.type(UP, UP, UP, ENTER)
        terminal.see("How many more trials?")
        shown = "50"
        for wrong in ("0", "x", "²", "-1", "1.5", ""):
            terminal.type(BACKSPACE * len(shown), wrong, ENTER)
            shown = wrong
        terminal.see("A whole number above 0.")
        terminal.type("12", ENTER)
        assert terminal.answer() == ["more", None, None, None, 12]


def test_an_empty_front_leaves_room_for_more_trials_and_a_model_without_a_format_for_other_actions() -> None:
    with running("tell(chooser.next_action([], BASELINE))\nchooser.offer([])\n" + NEXT) as terminal:
        terminal.see("Which trial?")
        terminal.type(ENTER)
        terminal.see("How many more trials?")
        terminal.type(ENTER)
        assert terminal.answer() == ["more", None, None, None, 50]
        terminal.see("Which trial?")
        terminal.type(ENTER)
        terminal.see("Trial 8: what next?")
        # Nothing can be saved, and so nothing uploaded.
        terminal.type(*UPLOAD, ENTER)
        terminal.see("Which benchmarks?")
        terminal.type(ESCAPE)
        terminal.see("Trial 8: what next?")
        terminal.type(ESCAPE)
        terminal.see("Which trial?")
        terminal.type(ESCAPE)
        assert terminal.answer() == ["leave", None, None, None, 0]


def test_an_unfinished_study_may_go_on_be_shown_or_set_aside() -> None:
    with running(RESUME.format(3) * 4) as terminal:
        for keys, answer in (((), "continue"), ((DOWN,), "results"), ((DOWN, DOWN), "restart")):
            terminal.see("(m.jsonl): 3 of 200 trials are done.")
            terminal.type(*keys, ENTER)
            assert terminal.answer() == answer
        terminal.see("3 of 200 trials are done.")
        terminal.type(ESCAPE)
        assert terminal.answer() is None


def test_a_finished_study_may_be_shown_or_set_aside() -> None:
    with running(RESUME.format(200) * 2) as terminal:
        for keys, answer in (((), "results"), ((DOWN,), "restart")):
            terminal.see("all 200 trials are done.")
            terminal.type(*keys, ENTER)
            assert terminal.answer() == answer
