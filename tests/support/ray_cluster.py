"""Ray clusters of several nodes on this machine, for tests."""

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

SMALL = {"object_store_memory": 80 << 20, "memory": 6 << 30}
"""Resources of a node: its memory is a number that actors are counted by, and is not taken."""


@contextmanager
def ray_nodes(*cpus: int) -> Iterator[Any]:
    """A cluster of nodes with so many CPUs, which this process has joined."""
    import ray
    from ray.cluster_utils import Cluster

    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    head, *others = cpus
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": head, "include_dashboard": False, **SMALL})
    try:
        for count in others:
            cluster.add_node(num_cpus=count, **SMALL)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def actor_processes() -> list[psutil.Process]:
    """The processes of all actors of this program on this machine that descend from this one."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "HereticActor" in process.name() or any("HereticActor" in word for word in process.cmdline()[:1]):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


class Killer(threading.Thread):
    """Kills an actor at random moments, `count` times; with `ready_in`, once a study in that folder has a trial."""

    def __init__(self, count: int, between: float, seed: int = 0, ready_in: Path | None = None) -> None:
        super().__init__(daemon=True)
        self._ready_in = ready_in
        self._draw = random.Random(seed)
        self._count, self._between = count, between
        self.killed = 0
        self.over = threading.Event()

    def _is_ready(self) -> bool:
        if self._ready_in is None:
            return True
        return any('"measured by"' in path.read_text() for path in self._ready_in.glob("*.jsonl"))

    def run(self) -> None:
        self._kill_at_random_moments()

    def _kill_at_random_moments(self) -> None:
        while not self._is_ready() and not self.over.is_set():
            time.sleep(0.02)
        while self.killed < self._count and not self.over.is_set():
            time.sleep(self._draw.uniform(0.2, 1.0) * self._between)
            victims = actor_processes()
            if len(victims) > 1:
                self._draw.choice(victims).kill()
                self.killed += 1
