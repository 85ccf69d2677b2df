"""What paths are learned from, and how many candidates they give."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from heretic.config import Settings
from heretic.config.changes import changed
from heretic.engine.learning.path import LearningSettings
from heretic.session.context import LoadedStudy
from heretic.session.directions import fit_tensors
from heretic.session.engine import open_engine
from heretic.session.learning import LearnedPaths, wanted_candidates
from tests.support.inline_actors import planted_session

DEFAULT = Settings().n_trials


def test_refusals_that_hold_no_marker_are_learned_from(planted_directory: Path, tmp_path: Path) -> None:
    """The model declines with "sorry cannot"."""
    session = planted_session(planted_directory)
    words = {"refusal_markers": ["nothing of the kind"], "refusal_openings": ["sorry cannot"]}
    session = replace(session, settings=changed(session.settings, words), path=tmp_path / "study.jsonl")
    engine = open_engine(session)
    record: Any = SimpleNamespace(telling=None)
    # Raises an error where the model declines nothing.
    LearnedPaths(LoadedStudy(session, record, engine, fit_tensors(session, engine, session.prompts), {})).prepare()


def test_one_path_unless_another_number_was_set() -> None:
    assert wanted_candidates("learned", DEFAULT) == LearningSettings().candidates < DEFAULT
    assert [wanted_candidates("learned", count) for count in (3, 40)] == [3, 40]
    assert wanted_candidates("kernel", DEFAULT) == DEFAULT


@pytest.mark.parametrize("warm_up", [0, 2])
def test_points_on_the_way_are_not_scaled_either(warm_up: int) -> None:
    settings = LearningSettings(lambdas=(4.0, 2.0, 1.0), warm_up=warm_up, scalings=((-1, 0.5), (-2, 0.5)))
    assert settings.scaled_points == [(2, 0.5), (1, 0.5)][: 2 if warm_up == 0 else 1]
    assert settings.candidates == 3 - warm_up + len(settings.scaled_points)
