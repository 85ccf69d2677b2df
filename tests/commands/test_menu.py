"""The menu's loop: what a user may try again, and what ends a run without questions."""

import errno
from types import SimpleNamespace
from typing import Any

import pytest

from heretic.commands import menu
from heretic.errors import ExportError, ModelError, StudyError
from heretic.events import Action
from tests.support.recorders import Recorder
from tests.support.study_toys import BASELINE
from tests.support.ui_toys import FRONT

SAVE = Action("save", FRONT[0], "merge", "edited")


def run(actions: list[Action], asks: bool, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """The messages of a menu in which these are chosen."""
    reporter, left = Recorder(), iter([*actions, Action("leave")])
    study = SimpleNamespace(trials=FRONT, record=SimpleNamespace(baseline=BASELINE))
    monkeypatch.setattr(menu, "show_front", lambda *_: None)
    monkeypatch.setattr(menu, "say_ending", lambda *_: None)
    monkeypatch.setattr(menu, "_choices", lambda _: [])
    running: Any = SimpleNamespace(study=study, reporter=reporter, loaded=SimpleNamespace(session=None), baseline={})
    chooser: Any = SimpleNamespace(asks=asks, offer=lambda _: None, next_action=lambda *_: next(left))
    assert menu.run_menu(running, chooser, lambda _: True, lambda: None) == 0
    return reporter


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (ExportError("no room"), "no room"),
        (StudyError("the tensors of a trial are missing"), "the tensors"),
        (ModelError("the written model can't be loaded"), "can't be loaded"),
        (OSError(errno.EIO, "I/O error", "edited"), "the disk or the network drive fails"),
        (KeyboardInterrupt(), "no incomplete file"),
    ],
)
def test_after_an_error_a_user_chooses_again(error: BaseException, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise error

    monkeypatch.setattr(menu, "save_trial", fails)
    [warning] = run([SAVE], True, monkeypatch).warnings
    assert shown in warning
    with pytest.raises(type(error)):
        run([SAVE], False, monkeypatch)


def test_a_bug_is_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(menu, "save_trial", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run([SAVE], True, monkeypatch)
