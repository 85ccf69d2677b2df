"""Actors in a Ray cluster: a running one, or one that is started on this machine for this run."""

import logging
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import psutil

from ... import __version__
from ...config import ClusterSettings
from ...errors import ClusterError, UserError
from ...installing import install_command
from .checkpoint_files import ReadPiece
from .system import ActorLost, Refused

MOST_OBJECT_STORE = 2 << 30
"""Bytes of shared memory of a Ray that is started here: it holds statistics and residuals, never weights."""
REFUSED = "refused"
PACKAGE = __name__.partition(".")[0]
ROUNDING = 1e-6
"""Ray counts resources in units of 1e-4, so a quotient just below a whole number is rounded up to it."""


@dataclass(frozen=True, slots=True)
class ActorNeeds:
    """The resources of one actor; `memory` is in bytes of RAM."""

    gpus: float
    cpus: float
    memory: int


class RaySystem:
    """Starts actors. `make` creates an actor's object on its node, with the methods `open`, `begin`, `perform`,
    `status` and `cancel`."""

    def __init__(self, ray: Any, needs: ActorNeeds, make: Callable[[], Any]) -> None:
        self._ray = ray
        self._needs = needs
        # As bytes: a node without this program, or with another version of it, must be able to say so.
        self._make = ray.put(ray.cloudpickle.dumps(make))
        self._class = _actor_class(ray)
        self._nodes: dict[Any, str] = {}

    def room(self) -> list[str]:
        taken = Counter(self._nodes.values())
        found: list[str] = []
        for node in self._alive():
            found += [node["NodeID"]] * max(0, places(node["Resources"], self._needs) - taken[node["NodeID"]])
        return found

    def name(self, node: str) -> str:
        return next((each["NodeManagerHostname"] for each in self._alive() if each["NodeID"] == node), node[:8])

    def start(self, node: str) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        options: dict[str, Any] = {"num_cpus": self._needs.cpus, "memory": self._needs.memory}
        if self._needs.gpus:
            options["num_gpus"] = self._needs.gpus
        actor = self._class.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False), **options
        ).remote(self._make, __version__)
        self._nodes[actor] = node
        return actor

    def call(self, actor: Any, method: str, *arguments: Any) -> Any:
        return getattr(actor, method).remote(*arguments)

    def now(self) -> float:
        return time.monotonic()

    def wait(self, calls: Sequence[Any], seconds: float) -> list[Any]:
        if not calls:
            time.sleep(seconds)
            return []
        first, others = self._ray.wait(list(calls), timeout=seconds)
        if first and others:
            # Collects all calls that have ended meanwhile: with many actors, one wait for each would be slow.
            first += self._ray.wait(others, num_returns=len(others), timeout=0)[0]
        return list(first)

    def result(self, call: Any) -> Any:
        errors = self._ray.exceptions
        try:
            found = self._ray.get(call)
            return Refused(found[REFUSED]) if isinstance(found, dict) else found
        except errors.RayTaskError as error:
            # A bug in the actor keeps its traceback; what a user can mend is one paragraph there as here.
            if isinstance(error.cause, UserError):
                raise error.cause from None
            raise
        except errors.RayError as error:
            raise ActorLost(_reason(error)) from error

    def end(self, actor: Any) -> None:
        self._nodes.pop(actor, None)
        self._ray.kill(actor)

    def share(self, value: Any) -> Any:
        return self._ray.put(value)

    def _alive(self) -> list[dict[str, Any]]:
        return [each for each in self._ray.nodes() if each["Alive"]]


def places(resources: Mapping[str, float], needs: ActorNeeds) -> int:
    """How many actors a node with these resources holds."""
    wanted = {"GPU": needs.gpus, "CPU": needs.cpus, "memory": float(needs.memory)}
    return min(int(resources.get(name, 0) / each + ROUNDING) for name, each in wanted.items() if each)


@contextmanager
def ray_cluster(settings: ClusterSettings) -> Iterator[Any]:
    """The module `ray`, joined to a cluster; one that was started here ends with the block.

    Raises:
        ClusterError: Ray is not installed, or the cluster can't be joined.
    """
    # Ray sends usage statistics to its makers by default.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Without it, Ray hides GPUs from the driver's own subprocesses in a way that it warns to change.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Ray's own default is 15: actors would wait for every other program of the machine.
    os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        import ray
    except ImportError as error:
        raise ClusterError(
            "Expected Ray for --ray, but it is not installed. Install it here and on every machine of the cluster, or "
            f"leave ray out: {install_command('ray')}"
        ) from error
    mine = not ray.is_initialized()
    if mine:
        _connect(ray, settings)
    _silence()
    try:
        yield ray
    finally:
        if mine:
            # Actors end with the connection, wherever they run.
            ray.shutdown()


def _connect(ray: Any, settings: ClusterSettings) -> None:
    address = settings.ray_address or os.environ.get("RAY_ADDRESS")
    if address is not None and address.startswith("ray://"):
        raise ClusterError(
            f"Expected the address of a cluster that this machine is part of, got {address!r}, which is that of Ray's "
            "client. Run heretic on a node of the cluster (or with ray job submit), with --ray-address auto."
        )
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        store = min(MOST_OBJECT_STORE, psutil.virtual_memory().available // 10)
        local = {"include_dashboard": False, "object_store_memory": max(store, 80 << 20)}
        ray.init(address="local", **local, **quiet)
        return
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise ClusterError(
            f"Expected a Ray cluster at {address!r}, could not join it ({first}). Start one with ray start --head, "
            "check ray status, or leave ray_address out: Ray is then started here."
        ) from error


def _silence() -> None:
    """Suppresses the paragraph that Ray prints on standard output when a process dies, whatever its log settings; the
    pool reports the death in one line."""
    from ray._private import worker

    # A release of Ray that prints in another way would show its paragraphs.
    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = _drop


def _drop(data: Mapping[str, Any], ignore_prefix: bool) -> None:
    logging.getLogger(__name__).debug("%s", data)


def _actor_class(ray: Any) -> Any:
    """The class of all actors. `status` and `cancel` have threads of their own, so that they don't wait for a task."""

    class HereticActor:
        def __init__(self, make: bytes, wanted: str) -> None:
            self._make, self._wanted = make, wanted
            self._worker: Any = None

        def open(self, known: Any) -> Any:
            import pickle
            import socket
            from importlib import import_module

            try:
                found = import_module(PACKAGE).__version__
            except ImportError:
                found = "none"
            if found != self._wanted:
                return {
                    REFUSED: f"expected heretic {self._wanted} on {socket.gethostname()}, as the driver has, found "
                    f"{found}. Install that version there."
                }
            self._worker = pickle.loads(self._make)()
            return self._worker.open(known)

        def begin(self, edition: int, state: Any) -> int:
            self._worker.begin(state)
            return edition

        def perform(self, task: int, method: str, title: str, *arguments: Any) -> Any:
            return self._worker.perform(task, method, title, *arguments)

        @ray.method(concurrency_group="control")
        def status(self) -> Any:
            return None if self._worker is None else self._worker.status()

        @ray.method(concurrency_group="control")
        def cancel(self, task: int) -> None:
            self._worker.cancel(task)

    return ray.remote(max_restarts=0, max_task_retries=0, concurrency_groups={"control": 1})(HereticActor)


def _reason(error: Exception) -> str:
    """The first informative sentence of Ray's error."""
    lines = [
        re.split(r"[.:]? *(Worker exit detail|Some common causes)", line.strip())[0] for line in str(error).splitlines()
    ]
    lines = [line for line in lines if line]
    telling = [
        line
        for line in lines
        if line.startswith(("The actor died because", "The actor is dead because", "Task was killed"))
    ]
    return (telling or lines or [type(error).__name__])[0][:200].rstrip(".")


def is_installed() -> bool:
    return find_spec("ray") is not None


def file_reader(ray: Any, read: ReadPiece) -> ReadPiece:
    """Reads the driver's files from any node, through an actor on the driver's node."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    class FileServer:
        def read(self, name: str, offset: int, length: int) -> bytes:
            return read(name, offset, length)

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    server = ray.remote(num_cpus=0)(FileServer).options(scheduling_strategy=here).remote()

    def remote_read(name: str, offset: int, length: int) -> bytes:
        piece: bytes = ray.get(server.read.remote(name, offset, length))
        return piece

    return remote_read
