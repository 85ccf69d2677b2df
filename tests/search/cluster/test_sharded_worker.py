"""One model over two processes (gloo, on a CPU) gives what it gives in one process."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from heretic.ablation.directions import Directions
from heretic.ablation.sites import Site
from heretic.engine.divergence import kl_divergence
from heretic.engine.local import LocalEngine
from heretic.engine.protocol import no_progress
from heretic.model.sharding import can_be_sharded, leave_ranks
from heretic.search.cluster import calls
from heretic.search.cluster.sharded_worker import ShardedWorker
from heretic.search.cluster.system import ActorFacts
from heretic.session.context import Session
from heretic.session.engine import open_engine
from tests.support.families import tiny
from tests.support.heldout_toys import planted_edits
from tests.support.inline_actors import planted_session, worker_spec

pytestmark = pytest.mark.xdist_group("ranks")

ROUNDING = {"rtol": 1e-4, "atol": 1e-5}
"""Each row-parallel product is the sum of two halves of 32 or 64 fp32 products: other last bits (6e-8), six layers."""


@dataclass(frozen=True)
class Both:
    """One model in one process and over two."""

    alone: LocalEngine
    sharded: ShardedWorker

    @property
    def sites(self) -> Sequence[Site]:
        return self.alone.sites

    def run(self, work: Callable[..., Any], *arguments: Any) -> tuple[Any, Any]:
        """The results of a call by one process and by two."""
        with torch.inference_mode():
            alone = work(self.alone, *arguments, progress=no_progress)
        return alone, self.sharded.perform(0, "run", "a test", work, "", 16, *arguments).value


@pytest.fixture(scope="module")
def session(planted_directory: Path) -> Session:
    return planted_session(planted_directory)


@pytest.fixture(scope="module")
def both(session: Session) -> Iterator[Both]:
    alone = open_engine(session)
    sharded = ShardedWorker(replace(worker_spec(session), ranks=2))
    try:
        found = sharded.open(None)
        assert isinstance(found, ActorFacts)
        assert found.device.startswith("2 x CPU")
        assert found.model.sites == alone.sites
        assert found.model.profile == alone.profile
        yield Both(alone, sharded)
    finally:
        sharded.end()
        leave_ranks()


def test_hooks_see_the_sum_over_both_processes(session: Session, both: Both) -> None:
    prompts = session.prompts.bad.prompts[:6]
    alone, sharded = both.run(calls.outputs_of_sites, prompts, [[5, 6]] * 6)
    assert len(alone[0][1]) == 12
    # Rows with fewer positions than others have NaN in their place.
    assert_close(sharded, alone, **ROUNDING, equal_nan=True)


def test_edits_and_kl_are_those_of_one_process(session: Session, both: Both) -> None:
    prompts = [*session.prompts.good_evaluation.prompts, *session.prompts.bad_evaluation.prompts]
    alone, sharded = both.run(calls.first_tokens, prompts, [{}, *planted_edits(both.sites, 2)])
    assert_close(sharded, alone, **ROUNDING)
    of_one, of_two = (kl_divergence(each[0], each[2]) for each in (alone, sharded))
    # The edit does something: it removes the refusals of the bad prompts.
    assert of_one.max() > 1
    assert_close(of_two, of_one, **ROUNDING)


def test_responses_residuals_and_weight_statistics_are_those_of_one_process(session: Session, both: Both) -> None:
    prompts = session.prompts.bad.prompts[:6]
    alone, sharded = both.run(calls.generate, prompts, [{}, planted_edits(both.sites, 2)[1]], 4, None)
    assert sharded == alone
    assert alone[0] != alone[1]
    alone, sharded = both.run(calls.residuals, prompts)
    assert_close(sharded, alone, **ROUNDING)
    directions = Directions(torch.nn.functional.normalize(torch.randn(7, 64), dim=-1))
    alone, sharded = both.run(calls.weight_statistics, directions)
    for module, expected in alone.items():
        # The weights are the same bits, put together again.
        assert torch.equal(sharded[module].row_norms, expected.row_norms)
        assert torch.equal(sharded[module].gram_directions, expected.gram_directions)


def test_only_families_with_a_plan_of_plain_matrices_are_sharded() -> None:
    llama = tiny("llama").config
    assert can_be_sharded(llama, 2)
    assert not can_be_sharded(llama, 3)
    assert not can_be_sharded(tiny("gpt2").config, 2)
    assert not can_be_sharded(tiny("mixtral").config, 2)
