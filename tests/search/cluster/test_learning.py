"""A path learned by actors is that of one process, to the last bit."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from heretic.ablation.methods.learned.parameters import LearnedParameters
from heretic.config.changes import changed
from heretic.engine.learning import runners
from heretic.engine.learning.path import LearningSettings
from heretic.engine.local import LocalEngine
from heretic.search.cluster import learning
from heretic.session.context import LoadedStudy, Session
from heretic.session.directions import fit_tensors
from heretic.session.engine import open_engine
from heretic.session.learning import LearnedPaths
from heretic.session.method import settle_method
from tests.support.inline_actors import engine_on_actors, planted_session

SHORT = LearningSettings(lambdas=(1.0, 0.5), warm_up=0, first_steps=2, steps=1, scalings=(), answer_tokens=4)


@pytest.fixture(scope="module")
def session(planted_directory: Path) -> Session:
    return planted_session(planted_directory)


def learned(session: Session, engine: LocalEngine, directory: Path) -> list[LearnedParameters]:
    """The points of a short path; their digests are those of the learned tensors' bytes."""
    own = replace(session, path=directory / "study.jsonl")
    record: Any = SimpleNamespace(telling=None)
    paths = LearnedPaths(LoadedStudy(own, record, engine, fit_tensors(own, engine, own.prompts), {}), SHORT)
    paths.prepare()
    points = [paths.next_point() for _ in SHORT.lambdas]
    paths.keep()
    return points


def test_edits_are_learned_by_default_where_an_actor_finds_the_gradients_right(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, _ = engine_on_actors(session, 2)
    auto = replace(session, settings=changed(session.settings, {"method": "auto"}))
    assert settle_method(auto, engine, None).settings.method == "learned"
    monkeypatch.setattr(runners, "gradient_fault", lambda *_: "they are zero")
    settled = settle_method(auto, engine, None)
    assert (settled.settings.method, settled.no_gradient) == ("kernel", "they are zero")
    split = replace(auto, settings=changed(auto.settings, {"gpus_per_model": 2}))
    assert settle_method(split, engine, None).settings.method == "kernel"


def test_a_path_does_not_depend_on_the_number_of_actors(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 3
    # Several groups a step, so that each actor gets some.
    for module in (runners, learning):
        monkeypatch.setattr(module, "MOST_POSITIONS", 160)
    alone = learned(session, open_engine(session), tmp_path / "alone")
    engine, system = engine_on_actors(session, count)
    together = learned(session, engine, tmp_path / "actors")
    assert alone[0].tensors != alone[1].tensors
    assert together == alone
    assert all(each.finished for each in engine.pool.workers)
    assert len(system.workers) == count
