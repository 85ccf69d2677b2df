"""What paths are learned from, and how many candidates they give."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from heretic.ablation.methods.learned.parameters import LearnedParameters
from heretic.config import Settings
from heretic.config.changes import changed
from heretic.engine.learning.path import LearningSettings
from heretic.errors import PromptError
from heretic.prompts.prompt import Prompt
from heretic.session import learning
from heretic.session.context import LoadedStudy
from heretic.session.directions import fit_tensors
from heretic.session.engine import open_engine
from heretic.session.learning import LearnedPaths, wanted_candidates
from heretic.session.tensor_store import TensorStore
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


@pytest.fixture(scope="module")
def planted(planted_directory: Path) -> LoadedStudy:
    session = planted_session(planted_directory)
    engine, record = open_engine(session), SimpleNamespace(telling=None)
    return LoadedStudy(session, cast(Any, record), engine, fit_tensors(session, engine, session.prompts), {})


SHORT = LearningSettings(
    lambdas=(3.0, 2.0, 1.0), warm_up=0, first_steps=1, steps=1, scalings=((-3, 0.5), (-1, 0.8)), answer_tokens=2
)


def test_a_study_resumed_after_any_point_goes_on_as_it_would_have(
    planted: LoadedStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two paths with different seeds; scaled points have the tensors of their own path's points."""
    monkeypatch.setattr(learning, "ASKED_AGAIN", 6)
    engine = planted.engine
    asked: list[tuple[str, ...]] = []

    def paths(name: str) -> LearnedPaths:
        found = LearnedPaths(at(planted, tmp_path / name), SHORT)
        found.prepare()
        return found

    whole = paths("whole")
    generate = engine.generate

    def recorded(prompts: Sequence[Prompt], *rest: Any) -> Any:
        asked.append(tuple(prompt.text for prompt in prompts))
        return generate(prompts, *rest)

    monkeypatch.setattr(engine, "generate", recorded)
    expected = [whole.next_point() for _ in range(10)]
    points = [(each.path, each.point, each.scale) for each in expected]
    assert points == [(path, *each) for path in (0, 1) for each in ((0, 1.0), (1, 1.0), (2, 1.0), (0, 0.5), (2, 0.8))]
    assert len({each.tensors for each in expected}) == 10
    store = TensorStore(tmp_path / "whole" / "study.jsonl")
    for point, scaled in ((5, 8), (7, 9)):
        assert strengths(store, expected[scaled]) == pytest.approx(
            expected[scaled].scale * strengths(store, expected[point])
        )
    # Prompts are drawn anew after each point that another one follows.
    assert [len(each) for each in asked] == [6] * 4 and len({*asked}) == 4
    resumed = []
    for _ in expected:
        again = paths("resumed")
        resumed.append(again.next_point())
        again.keep()
    assert resumed == expected


def test_a_search_interrupted_anywhere_goes_on_in_the_same_process_as_it_would_have(
    planted: LoadedStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By Ctrl+C in a step, in the answers after it, or before the point is kept; and then from the menu."""

    def stopped(*_: Any) -> Any:
        raise KeyboardInterrupt

    def goes_on(*_: Any) -> None: ...

    whole = LearnedPaths(at(planted, tmp_path / "whole"), SHORT)
    whole.prepare()
    expected = [whole.next_point() for _ in range(3)]
    other = LearnedPaths(at(planted, tmp_path / "other"), SHORT)
    found = []
    for after_step, generates in ((stopped, True), (goes_on, False), (goes_on, True)):
        other.prepare()
        with monkeypatch.context() as patched, suppress(KeyboardInterrupt):
            if not generates:
                patched.setattr(planted.engine, "generate", stopped)
            other.next_point(after_step)
        other.forget()
        with monkeypatch.context() as patched:
            patched.setattr(planted.engine, "generate", stopped)
            other.prepare()
        found.append(other.next_point())
        other.keep()
    assert found == expected


def test_an_edit_has_no_more_directions_than_there_are_bad_prompts(planted: LoadedStudy, tmp_path: Path) -> None:
    session = planted.session
    few = replace(session.prompts.bad, prompts=session.prompts.bad.prompts[:2])
    settings = changed(session.settings, {"learned_rank": 3})
    session = replace(session, settings=settings, prompts=replace(session.prompts, bad=few))
    paths = LearnedPaths(at(replace(planted, session=session), tmp_path))
    with pytest.raises(PromptError, match="at least 3 bad_prompts for learned_rank = 3"):
        paths.prepare()


def at(loaded: LoadedStudy, directory: Path) -> LoadedStudy:
    """The study with its files in another directory."""
    return replace(loaded, session=replace(loaded.session, path=directory / "study.jsonl"))


def strengths(store: TensorStore, point: LearnedParameters) -> float:
    return sum(float(each.sum()) for name, each in store[point.tensors].items() if name.startswith("strength."))


def test_one_path_unless_another_number_was_set() -> None:
    assert wanted_candidates("learned", DEFAULT) == LearningSettings().candidates < DEFAULT
    assert [wanted_candidates("learned", count) for count in (3, 40)] == [3, 40]
    assert wanted_candidates("kernel", DEFAULT) == DEFAULT


@pytest.mark.parametrize("warm_up", [0, 2])
def test_points_on_the_way_are_not_scaled_either(warm_up: int) -> None:
    settings = LearningSettings(lambdas=(4.0, 2.0, 1.0), warm_up=warm_up, scalings=((-1, 0.5), (-2, 0.5)))
    assert settings.scaled_points == [(2, 0.5), (1, 0.5)][: 2 if warm_up == 0 else 1]
    assert settings.candidates == 3 - warm_up + len(settings.scaled_points)
