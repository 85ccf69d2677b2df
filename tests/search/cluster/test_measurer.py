"""Groups of candidates that actors die of are measured one by one, and the study stays the same."""

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
    """The outcomes of requests, sent in groups of four to two actors."""
    system, reporter = SimulatedSystem({"a": 2}, answer=answer), Recorder()
    pool = ActorPool(system, reporter)
    pool.open(lambda _: "known")
    measurer = ActorMeasurer(pool, batch_size=8, candidates=4)
    for number, parameters in enumerate(RandomDraws(SPACE, 0).next(count)):
        measurer.submit(EvaluationRequest(number, parameters, limit if number % 4 == 0 else None))
    found: list[EvaluationResult] = []
    while len(found) < count:
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
    # Two actors that measured the group, three that measured it alone.
    assert sum("is gone" in line for line in reporter.warnings) == 5
    assert sum("2 actors ended during its task (trials 4 to 7), which is divided" in s for s in reporter.warnings) == 1
    assert sum("3 actors ended during its task (trial 5), which is lost" in line for line in reporter.warnings) == 1


def test_a_group_that_is_too_large_for_every_actor_is_measured_one_by_one() -> None:
    def answer(actor: SimulatedActor, arguments: Any) -> Any:
        actor.dead = len(arguments[0]) > 1
        return evaluated(arguments[0])

    found, _, system = measured(answer, count=4)
    assert found == {number: f"metrics of {number}" for number in range(4)}
    assert [len(group) for _, group in system.performed] == [4, 4, 1, 1, 1, 1]
