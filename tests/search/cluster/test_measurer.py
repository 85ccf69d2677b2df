"""Groups of candidates that actors die of are halved, and the study stays the same."""

from typing import Any

from heretic.engine.protocol import no_progress
from heretic.errors import CandidateError
from heretic.search.cluster.measurer import ActorMeasurer
from heretic.search.cluster.pool import ActorPool
from heretic.search.measurer import EvaluationRequest, EvaluationResult
from heretic.study.sampler import RandomDraws
from tests.support.recorders import Recorder
from tests.support.simulated_actors import SimulatedActor, SimulatedSystem
from tests.support.study_toys import SPACE


def limit(_: Any) -> None:
    """Its identity is compared."""


def measured(answer: Any, count: int = 8) -> tuple[dict[int, Any], Recorder, SimulatedSystem]:
    """The outcomes of requests, sent in groups of four to two actors, eight before the first results."""
    system, reporter = SimulatedSystem({"a": 2}, answer=answer), Recorder()
    pool = ActorPool(system, reporter)
    pool.open(lambda _: "known")
    measurer = ActorMeasurer(pool, batch_size=8, candidates=4)
    candidates = RandomDraws(SPACE, 0).next(count)
    requests = [EvaluationRequest(n, each, limit if n % 4 == 0 else None) for n, each in enumerate(candidates)]
    found: list[EvaluationResult] = []
    for done in range(0, count, 8):
        for request in requests[done : done + 8]:
            measurer.submit(request)
        while len(found) < min(done + 8, count):
            found += measurer.outcomes(no_progress)
    return {request.number: outcome for request, outcome in found}, reporter, system


def evaluated(group: list[EvaluationRequest]) -> list[EvaluationResult]:
    assert group[0].limit is limit, "the limit of its group's first request"
    return [(each, f"metrics of {each.number}") for each in group]  # type: ignore[misc]


def test_a_candidate_that_kills_its_actors_fails_alone() -> None:
    def answer(actor: SimulatedActor, arguments: Any) -> Any:
        numbers = [each.number for each in arguments[0]]
        actor.dead = 5 in numbers
        return evaluated(arguments[0])

    found, reporter, _ = measured(answer)
    assert isinstance(found.pop(5), CandidateError)
    assert found == {number: f"metrics of {number}" for number in (0, 1, 2, 3, 4, 6, 7)}
    # Two actors each that measured the group and its half, three that measured it alone.
    assert sum("is gone" in line for line in reporter.warnings) == 7
    assert sum("2 actors ended during its task (trials 4 to 7), which is divided" in s for s in reporter.warnings) == 1
    assert sum("3 actors ended during its task (trial 5), which is lost" in line for line in reporter.warnings) == 1


def test_after_a_group_that_is_too_large_for_every_actor_all_are_smaller() -> None:
    def answer(actor: SimulatedActor, arguments: Any) -> Any:
        actor.dead = len(arguments[0]) > 1
        return evaluated(arguments[0])

    found, _, system = measured(answer, count=12)
    assert found == {number: f"metrics of {number}" for number in range(12)}
    sizes = [len(group) for _, group in system.performed]
    assert sizes[-4:] == [1] * 4
    # Two actors for each group that was requested before the first results, and none for the later one.
    assert sizes.count(4) == 4
