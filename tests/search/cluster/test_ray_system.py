"""A real Ray of two nodes on this machine: processes and nodes are killed, and the study stays the same."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from heretic.cli import main
from heretic.config import Settings
from heretic.engine.protocol import no_progress
from heretic.errors import ClusterError, NoGradientError
from heretic.search.cluster.checkpoint_files import read_piece
from heretic.search.cluster.pool import ActorPool
from heretic.search.cluster.ray_system import ActorNeeds, RaySystem, file_reader, places, ray_cluster
from heretic.search.cluster.tasks import Task
from heretic.study.reader import RecordedStudy
from tests.support.optional import need_package
from tests.support.ray_cluster import Killer, actor_processes, ray_nodes
from tests.support.recorders import Recorder
from tests.support.toy_worker import ToyWorker

need_package("ray")
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]

LONGER = ["--n-trials", "20"]
NEEDS = ActorNeeds(gpus=0, cpus=1, memory=100 << 20)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with ray_nodes(2, 1) as started:
        yield started


@pytest.fixture
def pool(cluster: Any) -> Iterator[ActorPool]:
    import ray

    made = ActorPool(RaySystem(ray, NEEDS, ToyWorker), Recorder(), patience=20)
    made.open(lambda _: "known")
    made.begin("a study")
    yield made
    made.close()


def tasks(count: int, seconds: float = 0.0) -> list[Task]:
    return [Task("perform", (number, seconds), f"trial {number}") for number in range(count)]


def answers(pool: ActorPool, wanted: list[Task]) -> list[Any]:
    found = pool.map(wanted, no_progress)
    assert [each[2] for each in found] == [task.arguments[0] for task in wanted]
    assert {each[1] for each in found} == {"a study"}
    return found


def test_actors_that_are_killed_at_random_moments_lose_no_task(pool: ActorPool) -> None:
    answers(pool, tasks(6, 0.3))
    killer = Killer(4, between=0.7)
    killer.start()
    processes = {each[0] for each in answers(pool, tasks(60, 0.1))}
    killer.over.set()
    assert killer.killed >= 2
    assert len(processes) > 3


def test_a_bug_keeps_its_traceback_and_what_a_user_can_mend_is_the_same_error(pool: ActorPool) -> None:
    with pytest.raises(Exception, match="KeyError: 'a bug'"):
        pool.map([Task("perform", ("bug",), "trial 0")], no_progress)
    with pytest.raises(NoGradientError) as raised:
        pool.map([Task("perform", ("no gradient",), "a step")], no_progress)
    assert raised.value.reason == "it is zero"


def test_a_study_by_actors_on_two_nodes_that_are_killed_is_that_of_this_process(
    cluster: Any, planted_directory: Path, planted_flags: list[str], tmp_path: Path
) -> None:
    def trials(name: str, *more: str) -> Any:
        directory = tmp_path / name
        flags = [*planted_flags, "--study-checkpoint-dir", str(directory), "--open-candidates", "4", *LONGER, *more]
        assert main([str(planted_directory / "planted"), *flags]) == 0
        [journal] = directory.glob("*.jsonl")
        study = RecordedStudy(journal)
        measured_by = {trial.user_attrs.get("measured by") for trial in study.optuna.get_trials()}
        return study.trials, measured_by, study.runs[-1].settings["open_candidates"]

    alone, nobody, open_alone = trials("alone")
    killer = Killer(2, between=0.3, ready_in=tmp_path / "actors")
    killer.start()
    actors, names, open_actors = trials("actors", "--ray")
    killer.over.set()
    assert actors == alone
    assert len(alone) == 20
    assert nobody == {None}
    assert None not in names
    assert open_alone == open_actors == 4
    assert killer.killed


def test_a_node_that_is_killed_and_one_that_joins(cluster: Any, pool: ActorPool) -> None:
    answers(pool, tasks(6, 0.2))
    new = cluster.add_node(num_cpus=2, object_store_memory=80 << 20, memory=2 << 30)
    used: set[int] = set()
    for _ in range(20):
        used |= {each[0] for each in answers(pool, tasks(10, 0.1))}
        if len(used) == 5:
            break
    assert len(used) == pool.size == 5
    killer = threading.Timer(0.3, partial(cluster.remove_node, new, allow_graceful=False))
    killer.start()
    answers(pool, tasks(30, 0.1))
    killer.join()
    # Ray takes half a minute to report a dead node: its actors' calls stay open meanwhile, but no task waits for them.
    # The actors' processes outlive that of their node for a moment.
    assert any(len({each[0] for each in answers(pool, tasks(12, 0.1))}) == 3 for _ in range(20))


def test_actors_end_with_a_driver_that_was_killed(cluster: Any, tmp_path: Path) -> None:
    before = {process.pid for process in actor_processes()}
    script = tmp_path / "driver.py"
    script.write_text(
        "import sys, ray\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[3])!r})\n"
        "from heretic.search.cluster.pool import ActorPool\n"
        "from heretic.search.cluster.ray_system import ActorNeeds, RaySystem\n"
        "from tests.support.recorders import Recorder\n"
        "from tests.support.toy_worker import ToyWorker\n"
        f"ray.init(address={cluster.address!r}, log_to_driver=False)\n"
        "pool = ActorPool(RaySystem(ray, ActorNeeds(0, 1, 1 << 20), ToyWorker), Recorder())\n"
        "pool.open(lambda _: 'known')\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        # Ray may print lines about the node that was killed before.
        assert "ready\n" in driver.stdout
        started = [process for process in actor_processes() if process.pid not in before]
        assert started
        driver.kill()
    _, alive = psutil.wait_procs(started, timeout=30)
    assert alive == []


def test_pieces_of_the_drivers_files_are_read_by_an_actor(cluster: Any, tmp_path: Path) -> None:
    import ray

    (tmp_path / "weights").write_bytes(bytes(range(100)))
    read = file_reader(ray, partial(read_piece, tmp_path))
    assert read("weights", 10, 5) == bytes(range(10, 15))


def test_places_of_a_node() -> None:
    whole, half, two = (ActorNeeds(gpus, 1, 10) for gpus in (1, 0.5, 2))
    node = {"GPU": 4, "CPU": 16, "memory": 1000}
    assert [places(node, needs) for needs in (whole, half, two)] == [4, 8, 2]
    assert places({"CPU": 16, "memory": 1000}, whole) == 0
    assert places({"CPU": 16, "memory": 35}, ActorNeeds(0, 1, 10)) == 3
    # A third of a GPU has no exact binary fraction.
    assert places({"GPU": 1, "CPU": 8, "memory": 99}, ActorNeeds(1 / 3, 1, 10)) == 3


def test_without_a_cluster_at_the_address_one_paragraph(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def refuse(**_: Any) -> None:
        raise ConnectionError("ray.init() could not connect\nmore")

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with (
        pytest.raises(ClusterError, match=r"at '10.0.0.1:6379', could not join it \(ray.init\(\) could not connect\)"),
        ray_cluster(Settings(ray_address="10.0.0.1:6379")),
    ):
        pass
    with pytest.raises(ClusterError, match="Ray's client"), ray_cluster(Settings(ray_address="ray://host:10001")):
        pass


def test_actors_of_a_ray_that_starts_here_have_the_priority_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.delenv("RAY_worker_niceness", raising=False)
    monkeypatch.setattr(ray, "init", lambda **_: None)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with ray_cluster(Settings()):
        assert os.environ["RAY_worker_niceness"] == "0"  # noqa: SIM112 (Ray's own spelling)


def test_without_ray_one_paragraph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterError, match=r"install .*ray"), ray_cluster(Settings()):
        pass
