"""Permission to run a model's code is the user's answer for that model."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from heretic.commands.evaluate import evaluate_model
from heretic.config import Settings
from heretic.errors import ModelError
from tests.support.custom import write_custom
from tests.support.recorders import Recorder


class YesToTheFirst(Recorder):
    """A user who allows the code of the first model that needs permission."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def confirm(self, text: str, details: Sequence[str], question: str) -> bool:
        self.asked.append(text.split(" can't")[0])
        return len(self.asked) == 1


def test_permission_for_one_model_does_not_cover_another(tmp_path: Path) -> None:
    edited, base = tmp_path / "edited", tmp_path / "base"
    for directory in (edited, base):
        directory.mkdir()
        write_custom(directory)
    user = YesToTheFirst()
    with pytest.raises(ModelError, match=r"base needs code of its own"):
        evaluate_model(Settings(preset="disclaimer"), str(edited), str(base), user)
    assert user.asked == [str(edited), str(base)]
    assert not (edited / "ran").exists(), "code ran before the user had answered for both models"
    assert not (base / "ran").exists()
