"""The answers of the flags: continue, save once what is named, leave."""

from pathlib import Path
from typing import Any

import pytest

from heretic.config import ExportSettings
from heretic.errors import StudyError
from heretic.events import Action
from heretic.ui.flags import FlagChooser, default_output
from tests.support.ui_toys import BASELINE, FRONT


def chooser(resume: str | None = None, model: str = "org/model", **settings: Any) -> FlagChooser:
    return FlagChooser(ExportSettings(**settings), resume, model)


@pytest.mark.parametrize(("resume", "choice"), [(None, "continue"), ("continue", "continue"), ("restart", "restart")])
@pytest.mark.parametrize("finished", [3, 200])
def test_a_recorded_study_is_gone_on_with_unless_it_is_to_restart(
    resume: str | None, choice: str, finished: int
) -> None:
    assert chooser(resume).resume(finished, 200, "m.jsonl") == choice


@pytest.mark.parametrize(
    ("settings", "export", "output"),
    [
        ({"export": "merge"}, "merge", "model-heretic"),
        ({"export": "adapter"}, "adapter", "model-heretic"),
        ({"output": Path("out")}, "merge", "out"),
        ({"export": "adapter", "output": Path("out")}, "adapter", "out"),
    ],
)
def test_what_is_named_is_saved_once(settings: dict[str, Any], export: Any, output: str) -> None:
    flags = chooser(**settings)
    assert flags.next_action(FRONT, BASELINE) == Action("save", FRONT[1], export, output)
    assert flags.next_action(FRONT, BASELINE) == Action("leave")


def test_what_is_to_be_uploaded_is_written_first() -> None:
    flags = chooser(upload="me/edited", upload_public=True)
    expected = Action("upload", FRONT[1], "merge", "model-heretic", repository="me/edited", public=True)
    assert flags.next_action(FRONT, BASELINE) == expected


@pytest.mark.parametrize("settings", [{}, {"export": "none"}, {"export": "none", "output": Path("out")}])
def test_nothing_is_saved_where_nothing_is_named(settings: dict[str, Any]) -> None:
    assert chooser(**settings).next_action(FRONT, BASELINE) == Action("leave")


@pytest.mark.parametrize(
    ("select", "number"), [(None, 8), ("knee", 8), ("lowest-kl", 1), ("lowest-refusals", 123), (1, 1), (123, 123)]
)
def test_the_trial_is_the_one_that_is_selected(select: Any, number: int) -> None:
    action = chooser(export="merge", trial=select).next_action(FRONT, BASELINE)
    assert action.trial is not None
    assert action.trial.number == number


def test_trial_0_is_a_number_not_an_absence() -> None:
    with pytest.raises(StudyError, match="Trial 0 is not on the Pareto front"):
        chooser(export="merge", trial=0).next_action(FRONT, BASELINE)


@pytest.mark.parametrize(
    ("model", "output"),
    [
        ("org/model", "model-heretic"),
        ("models/model/", "model-heretic"),
        ("models/model-Q8_0.gguf", "model-Q8_0-heretic"),
        ("model.v1", "model.v1-heretic"),
        (".", "here-heretic"),
        ("below/..", "here-heretic"),
    ],
)
def test_an_export_without_a_name_has_the_models(
    model: str, output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert default_output(model) == output
