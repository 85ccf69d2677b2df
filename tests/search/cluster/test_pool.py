"""A pool loses no task: it replaces dead actors, reruns slow tasks, and uses nodes that join."""

from typing import Any

import pytest

from heretic.engine.protocol import no_progress
from heretic.errors import ClusterError, ModelError
from heretic.search.cluster.pool import ActorPool
from heretic.search.cluster.system import Answer
from heretic.search.cluster.tasks import Task, TaskOutcome
from tests.support.recorders import Recorder
from tests.support.simulated_actors import SimulatedActor, SimulatedSystem


def opened(system: SimulatedSystem, **options: Any) -> tuple[ActorPool, Recorder]:
    reporter = Recorder()
    pool = ActorPool(system, reporter, **options)
    pool.open(lambda facts: f"profile of {facts.model}")
    return pool, reporter


def tasks(count: int) -> list[Task]:
    return [Task("measure", (number,), f"trial {number}") for number in range(count)]


def everything(pool: ActorPool, count: int) -> dict[int, TaskOutcome]:
    for task in tasks(count):
        pool.submit(task)
    found: dict[int, TaskOutcome] = {}
    while len(found) < count:
        for outcome in pool.outcomes(no_progress):
            number = outcome.task.arguments[0]
            assert number not in found, "reported once"
            found[number] = outcome
    return found


def test_all_actors_work_and_results_of_a_map_are_in_order() -> None:
    system = SimulatedSystem({"a": 2, "b": 3}, seconds=lambda actor, _: 2.0 + actor.number % 3)
    pool, _ = opened(system)
    rows: list[int] = []
    assert pool.map(tasks(40), rows.append) == list(range(40))
    assert {actor for actor, _ in system.performed} == {0, 1, 2, 3, 4}
    assert sum(rows) == 120


def test_one_actor_measures_the_model_and_all_others_are_given_its_profile() -> None:
    system = SimulatedSystem({"a": 3})
    pool, _ = opened(system)
    everything(pool, 12)
    assert [each.opened for each in system.actors] == [[None], ["profile of model 0"], ["profile of model 0"]]


def test_every_actor_holds_the_study_before_its_first_task() -> None:
    system = SimulatedSystem({"a": 3})
    pool, _ = opened(system)
    for state in ("directions", "others"):
        pool.begin(state)
        everything(pool, 9)
        assert all(each.began[-1] == state for each in system.actors)
    assert system.actors[0].began == ["directions", "others"]


def test_no_more_actors_than_the_limit() -> None:
    system = SimulatedSystem({"a": 8})
    pool, _ = opened(system, most=3)
    everything(pool, 30)
    assert len(system.actors) == pool.size == 3


def test_the_task_of_a_dead_actor_goes_to_another_and_the_actor_is_replaced() -> None:
    def answer(actor: SimulatedActor, arguments: Any) -> Any:
        if arguments[0] == 5 and actor.number < 2:
            actor.dead = True
        return arguments[0]

    system = SimulatedSystem({"a": 2}, answer=answer)
    pool, reporter = opened(system)
    found = everything(pool, 12)
    assert {number: each.value for number, each in found.items()} == {number: number for number in range(12)}
    assert any("(trial 5) goes to another" in line for line in reporter.warnings)
    assert pool.size == 2


def test_a_task_that_kills_every_actor_is_lost_and_no_other() -> None:
    def answer(actor: SimulatedActor, arguments: Any) -> Any:
        actor.dead = arguments[0] == 4
        return arguments[0]

    pool, _ = opened(SimulatedSystem({"a": 3}, answer=answer))
    found = everything(pool, 12)
    assert {number for number, each in found.items() if each.lost} == {4}
    with pytest.raises(ClusterError, match="3 actors ended during it"):
        pool.map([Task("run", (4,), "residuals")], no_progress)


def test_an_actor_without_memory_is_replaced_and_its_task_goes_to_another() -> None:
    def answer(actor: SimulatedActor, arguments: Any) -> Any:
        return Answer(None, lacked="no memory") if actor.number == 0 else arguments[0]

    pool, reporter = opened(SimulatedSystem({"a": 2}, answer=answer, seconds=lambda *_: 2.0))
    found = everything(pool, 12)
    assert not any(each.lost for each in found.values())
    assert pool.size == 2
    [line] = [each for each in reporter.warnings if "Actor 1 on a is gone (no memory)." in each]
    assert "goes to another" in line


def test_a_node_whose_actors_lack_memory_is_not_used() -> None:
    def answer(actor: SimulatedActor, arguments: Any) -> Any:
        return Answer(None, lacked="no memory") if actor.node == "small" else arguments[0]

    system = SimulatedSystem({"large": 1, "small": 1}, answer=answer, seconds=lambda *_: 2.0)
    pool, reporter = opened(system)
    found = everything(pool, 12)
    assert not any(each.lost for each in found.values())
    assert {each.node for each in system.actors} == {"large"}
    [line] = [each for each in reporter.warnings if "small is not used" in each]
    assert "3 in a row failed" in line


def test_a_note_that_every_actor_makes_is_shown_once() -> None:
    def answer(actor: SimulatedActor, arguments: Any) -> Any:
        return Answer(arguments[0], notes=("halved",))

    pool, reporter = opened(SimulatedSystem({"a": 3}, answer=answer))
    everything(pool, 12)
    assert [each for each in reporter.lines if "halved" in each] == ["halved (Actor 1 on a)"]


def test_with_the_last_actor_gone_the_search_ends_with_what_to_do() -> None:
    system = SimulatedSystem({"a": 2})

    def answer(actor: SimulatedActor, arguments: Any) -> Any:
        if arguments[0] == 6:
            # The node dies, and all actors with it.
            system.nodes.clear()
            for each in system.actors:
                each.dead = True
        return arguments[0]

    system._answer = answer
    pool, _ = opened(system)
    with pytest.raises(ClusterError, match=r"last actor is gone \(its process was killed\).*run the same command"):
        everything(pool, 12)


def test_a_node_that_comes_back_in_time_is_used() -> None:
    system = SimulatedSystem({"a": 1})

    def answer(actor: SimulatedActor, arguments: Any) -> Any:
        actor.dead = arguments[0] == 3 and actor.number == 0
        return arguments[0]

    system._answer = answer
    pool, _ = opened(system, patience=1e9)
    assert len(everything(pool, 8)) == 8


def test_a_node_that_joins_is_used() -> None:
    system = SimulatedSystem({"a": 1}, seconds=lambda *_: 1.0)
    pool, _ = opened(system)
    everything(pool, 2)
    system.nodes["b"] = 2
    everything(pool, 20)
    assert {each.node for each in system.actors} == {"a", "b"}
    assert {actor for actor, _ in system.performed} == {0, 1, 2}


def test_a_slow_node_holds_nobody_up() -> None:
    def seconds(actor: SimulatedActor, _: Any) -> float:
        return 1e9 if actor.node == "slow" else 5.0

    system = SimulatedSystem({"a": 2, "slow": 1}, seconds=seconds)
    pool, _ = opened(system)
    found = everything(pool, 20)
    assert len(found) == 20
    assert not any(each.actor.endswith("slow") for each in found.values())


def test_a_node_that_can_not_be_used_is_named_and_left_out() -> None:
    system = SimulatedSystem({"a": 1, "old": 2}, refuses={"old": "it has another heretic"})
    pool, reporter = opened(system)
    assert len(everything(pool, 10)) == 10
    assert {each.node for each in system.actors} == {"a"}
    assert "old is not used: it has another heretic" in reporter.warnings


def test_if_no_node_can_be_used_the_reason_is_the_error() -> None:
    with pytest.raises(ModelError, match="it has another heretic"):
        opened(SimulatedSystem({"old": 2}, refuses={"old": "it has another heretic"}))


def test_versions_are_checked() -> None:
    system = SimulatedSystem({"a": 1, "b": 1}, versions={"b": {"heretic": "0"}})
    pool, reporter = opened(system, check=lambda facts: "too old" if facts.versions["heretic"] == "0" else None)
    everything(pool, 10)
    assert {each.node for each in system.actors} == {"a"}
    assert "b is not used: too old" in reporter.warnings


def test_a_cluster_without_room_says_so() -> None:
    with pytest.raises(ClusterError, match="with room for one model, found none"):
        opened(SimulatedSystem({}))


def test_actors_that_die_while_they_load_the_model_end_the_run() -> None:
    class Dying(SimulatedSystem):
        def start(self, node: str) -> SimulatedActor:
            actor = super().start(node)
            actor.dead = True
            return actor

    with pytest.raises(ModelError, match="3 in a row failed"):
        opened(Dying({"a": 1}))


def test_tasks_of_a_search_that_was_stopped_are_dropped() -> None:
    system = SimulatedSystem({"a": 2}, seconds=lambda *_: 20.0)
    pool, _ = opened(system)
    old = tasks(4)
    for task in old:
        pool.submit(task)
    pool.drop_tasks()
    assert {each.task for each in everything(pool, 3).values()}.isdisjoint(old)


def test_outcomes_of_other_tasks_wait_while_a_map_runs() -> None:
    pool, _ = opened(SimulatedSystem({"a": 2}, seconds=lambda *_: 20.0))
    other, *mapped = tasks(3)
    pool.submit(other)
    assert len(pool.map(mapped, no_progress)) == 2
    [outcome] = pool.outcomes(no_progress)
    assert outcome.task is other


def test_workers_say_what_they_do() -> None:
    system = SimulatedSystem({"a": 2}, seconds=lambda *_: 20.0)
    pool, _ = opened(system)
    pool.submit(tasks(1)[0])
    assert ("1 on a", "trial 0") in [(each.name, each.doing) for each in pool.workers]
