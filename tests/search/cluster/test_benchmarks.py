"""Benchmarks whose requests are split over actors give the scores of one process."""

from contextlib import nullcontext
from pathlib import Path

import pytest

pytest.importorskip("lm_eval")

from heretic.benchmark.harness import BenchmarkModel, WatchedModel, run_task
from heretic.search.cluster.benchmarks import RemoteModel
from heretic.session.engine import open_engine
from tests.support.heldout_toys import planted_edits
from tests.support.inline_actors import engine_on_actors, planted_session
from tests.support.planted_task import write_task


def test_scores_of_documents_are_those_of_one_process(planted_directory: Path, tmp_path: Path) -> None:
    session, task = planted_session(planted_directory), str(write_task(tmp_path, tokens=2))
    local = open_engine(session)
    edit = planted_edits(local.sites, 2)[1]
    remote, _ = engine_on_actors(session, 2)
    counted: list[int] = []
    models: list[BenchmarkModel] = [
        WatchedModel(local.loaded.model, local.chat, 2, lambda *_: nullcontext(lambda _: None), local.sites),
        RemoteModel(remote, 2, lambda *_: nullcontext(counted.append)),
    ]
    scores = []
    for lm in models:
        for each in ({}, edit):
            with lm.edited(each):
                found = run_task(lm, task, None, None).documents
            scores.append([(each.number, each.digest, each.scores, each.unfinished) for each in found])
    assert scores[:2] == scores[2:]
    assert scores[0] != scores[1]
    assert sum(counted) == 2 * len(scores[0]) == 32
    assert all(each.finished for each in remote.pool.workers)
