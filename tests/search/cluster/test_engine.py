"""Splitting prompts over actors gives the results of one engine: the same bits, in the same order."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from heretic.ablation.methods.oblique.compile import fit
from heretic.engine.local import LocalEngine
from heretic.engine.protocol import no_progress
from heretic.evaluation.heldout.evaluate import HeldoutEvaluator, HeldoutPrompts
from heretic.evaluation.heldout.measurer import SharedForwards
from heretic.evaluation.heldout.response_classes import ResponseClassifier
from heretic.search.cluster.engine import RemoteEngine
from heretic.search.cluster.measurer import ActorHeldout
from heretic.session.context import Session
from heretic.session.directions import fit_tensors, mean_residuals
from heretic.session.engine import open_engine
from heretic.session.site_measurements import SiteMeasurements
from tests.support.heldout_toys import SETTINGS, planted_requests
from tests.support.inline_actors import InlineSystem, engine_on_actors, planted_session


@pytest.fixture(scope="module")
def session(planted_directory: Path) -> Session:
    return planted_session(planted_directory)


@pytest.fixture(scope="module")
def local(session: Session) -> LocalEngine:
    return open_engine(session)


@pytest.fixture(scope="module", params=[1, 3])
def actors(request: pytest.FixtureRequest, session: Session) -> Iterator[tuple[RemoteEngine, InlineSystem]]:
    yield engine_on_actors(session, request.param)


def test_means_of_residuals_add_up_exactly(
    session: Session, local: LocalEngine, actors: tuple[RemoteEngine, InlineSystem]
) -> None:
    engine, _ = actors
    for side in ("good", "bad"):
        alone = mean_residuals(session, local, session.prompts, side)
        together = mean_residuals(session, engine, session.prompts, side)
        assert together.count == alone.count
        assert torch.equal(together.mean, alone.mean)


def test_all_actors_take_part(actors: tuple[RemoteEngine, InlineSystem], session: Session) -> None:
    engine, system = actors
    before = [each.finished for each in engine.pool.workers]
    list(engine.residuals(session.prompts.good.prompts, no_progress))
    after = [each.finished for each in engine.pool.workers]
    assert all(a > b for a, b in zip(after, before, strict=True))
    assert len(system.workers) == len(after)


def test_second_moments_add_up_exactly(
    session: Session, local: LocalEngine, actors: tuple[RemoteEngine, InlineSystem]
) -> None:
    alone, together = (fit(SiteMeasurements(each, session.prompts, session.reporter)) for each in (local, actors[0]))
    assert alone.keys() == together.keys()
    assert all(torch.equal(together[name], alone[name]) for name in alone)


def test_directions_gains_and_weight_statistics_are_those_of_one_engine(
    session: Session, local: LocalEngine, actors: tuple[RemoteEngine, InlineSystem]
) -> None:
    engine, _ = actors
    alone, together = (fit_tensors(session, each, session.prompts) for each in (local, engine))
    assert torch.equal(together.directions.vectors, alone.directions.vectors)
    assert together.gains.keys() == alone.gains.keys()
    statistics = engine.weight_stats(together.directions, no_progress)
    for module, expected in local.weight_stats(alone.directions, no_progress).items():
        assert torch.equal(statistics[module].row_norms, expected.row_norms)
        assert torch.equal(statistics[module].gram_directions, expected.gram_directions)


def test_responses_and_first_tokens_are_those_of_one_engine(
    session: Session, local: LocalEngine, actors: tuple[RemoteEngine, InlineSystem]
) -> None:
    engine, _ = actors
    prompts = [*session.prompts.good.prompts, *session.prompts.bad.prompts]
    edits = [{}, planted_requests(HeldoutEvaluator(local, *_parts(session)), 1)[0].edit]
    rows: list[int] = []
    assert engine.generate(prompts, edits, 4, None, rows.append) == local.generate(prompts, edits, 4, None, no_progress)
    assert sum(rows) == len(prompts)
    found = engine.first_token_log_probabilities(prompts, edits, no_progress)
    assert torch.equal(found, local.first_token_log_probabilities(prompts, edits, no_progress))
    answers = [(5, 6)] * len(prompts)
    alone = dict(local.answer_log_probabilities(prompts, answers, edits, no_progress))
    together = dict(engine.answer_log_probabilities(prompts, answers, edits, no_progress))
    assert alone.keys() == together.keys()
    assert all(torch.equal(together[index], alone[index]) for index in alone)


def test_the_heldout_evaluation_is_that_of_one_engine(
    session: Session, local: LocalEngine, actors: tuple[RemoteEngine, InlineSystem]
) -> None:
    engine, _ = actors
    alone, together = (HeldoutEvaluator(each, *_parts(session)) for each in (local, engine))
    requests = planted_requests(alone, 3)
    expected = list(SharedForwards().measure(alone, requests, no_progress))
    found = list(ActorHeldout(engine).measure(together, requests, no_progress))
    assert found[0].metrics == expected[0].metrics  # type: ignore[union-attr]
    by_trial = {each.request.trial: each.outcome for each in found[1:]}  # type: ignore[union-attr]
    assert by_trial == {each.request.trial: each.outcome for each in expected[1:]}  # type: ignore[union-attr]
    assert together.null(found[0]) == alone.null(expected[0])  # type: ignore[arg-type]


def test_the_driver_holds_no_weights(actors: tuple[RemoteEngine, InlineSystem], local: LocalEngine) -> None:
    engine, _ = actors
    assert {each.device.type for each in engine.loaded.model.parameters()} == {"meta"}
    assert [site.module for site in engine.sites] == [site.module for site in local.sites]
    assert engine.profile == local.profile
    assert engine.loaded.vocabulary == local.loaded.vocabulary
    assert len(engine.loaded.layers) == len(local.loaded.layers)


def _parts(session: Session) -> tuple[HeldoutPrompts, ResponseClassifier, int]:
    prompts = HeldoutPrompts(session.prompts.good_evaluation, session.prompts.bad_evaluation, None)
    return prompts, ResponseClassifier(SETTINGS.refusal_openings, SETTINGS.refusal_markers), 4
