"""Opens the engine of a search: in this process, or on the actors of a cluster."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from ...config.changes import changed
from ...engine.local import LocalEngine
from ...engine.protocol import RuntimeProfile
from ...installing import install_command
from ...model.accelerator import accelerator, devices
from ...model.loading.checkpoint import Checkpoint
from ...model.loading.load import configuration, load_skeleton
from ...model.sharding import can_be_sharded
from ...session.context import LoadedStudy, Session
from ...session.engine import open_engine, release
from ...session.recorded import load_engine, runtime_of
from ...session.records import versions
from ...session.shared_forwards import prepare_search
from ...study.schema import StudyRecord
from .checkpoint_files import file_source, read_piece
from .engine import RemoteEngine
from .pool import ActorPool
from .ray_system import ActorNeeds, RaySystem, file_reader, is_installed, ray_cluster
from .sharded_worker import ShardedWorker
from .system import ActorFacts
from .worker import ModelFacts, ModelWorker, WorkerSpec

PATIENCE = 30.0
"""Seconds to wait for a node once no actor is left: nodes that restart are back by then."""
ROOM = 1.2
"""Memory of a model on a GPU as a multiple of its files' size, caches and activations included."""
OVERHEAD = 512 << 20
"""Bytes of a process with torch and transformers, without a model."""
COMPARED = ("torch", "transformers")
"""Packages whose releases affect the last digits of metrics."""


@contextmanager
def search_engine(session: Session, known: RuntimeProfile | None) -> Iterator[LocalEngine]:
    """The engine that measures this session's model; a cluster's actors end with the `with` block.

    Raises:
        ClusterError: the cluster can't be joined, or has no room for the model.
        ModelError: the model can't be loaded.
    """
    if not uses_cluster(session):
        yield open_engine(session, known, prepare_search)
        return
    with ray_cluster(session.settings) as ray:
        pool = ActorPool(
            _system(ray, session), session.reporter, Versions(session), session.settings.max_actors, PATIENCE
        )
        try:
            yield remote_engine(pool, session, known)
        finally:
            pool.close()


@contextmanager
def recorded_engine(session: Session, record: StudyRecord) -> Iterator[LocalEngine]:
    """The engine for more work on a recorded study's model: actors as for a search, or this process.

    Raises:
        ClusterError: the cluster can't be joined, or has no room for the model.
        ModelError: the model can't be loaded.
    """
    if not uses_cluster(session):
        yield load_engine(session, record)
        return
    with search_engine(session, runtime_of(record)) as engine:
        yield engine


def uses_cluster(session: Session) -> bool:
    """Whether candidates are measured by actors: as the settings say, or because several GPUs each hold the model."""
    settings, reporter = session.settings, session.reporter
    asked = settings.ray if settings.ray is not None else (settings.ray_address is not None or None)
    if asked is not None:
        return asked
    count = idle_gpus(session)
    if count < 2:
        return False
    if not is_installed():
        reporter.say(
            f"This machine has {count} GPUs, of which one is used. Install Ray to use all: {install_command('ray')}"
        )
        return False
    reporter.say(f"All {count} GPUs of this machine are used, each by a model of its own (--no-ray uses one).")
    return True


def idle_gpus(session: Session) -> int:
    """GPUs that could each hold the model; 0 where the model needs several, or the settings choose its devices."""
    settings = session.settings
    if accelerator() not in ("cuda", "xpu") or settings.device_map != "auto" or settings.max_memory:
        return 0
    size = ROOM * _size(session.checkpoint)
    return sum(device.free > size for device in devices())


def remote_engine(pool: ActorPool, session: Session, known: RuntimeProfile | None) -> RemoteEngine:
    """An engine on the pool's actors; the first of them measures the profile that all others are given."""
    reporter = session.reporter
    with reporter.step("Starting actors, and loading the model"):
        facts = pool.open(lambda found: found.model.profile, known)
    found: ModelFacts = facts.model
    for note in found.notes:
        reporter.say(note)
    reporter.say(f"Actors measure the candidates; the first runs on {facts.host} ({facts.device}).")
    dtype = getattr(torch, found.profile.dtype)
    skeleton = load_skeleton(session.checkpoint, session.settings, dtype, found.chat.tokenizer, found.sites)
    model: Any = skeleton.model
    model.generation_config = found.generation_config
    return RemoteEngine(pool, found, skeleton)


@contextmanager
def with_weights(loaded: LoadedStudy) -> Iterator[LoadedStudy]:
    """The study with the model in this process, for work that actors don't do. Actors end first, and start again when
    they are needed."""
    engine = loaded.engine
    if not isinstance(engine, RemoteEngine):
        yield loaded
        return
    engine.pool.close()
    local = open_engine(loaded.session, engine.profile)
    try:
        yield replace(loaded, engine=local)
    finally:
        release(local)


class Versions:
    """Compares an actor's packages with the driver's; warns of other releases once for each machine."""

    def __init__(self, session: Session) -> None:
        self._reporter = session.reporter
        self._ours = versions()
        self._named: set[str] = set()

    def __call__(self, facts: ActorFacts) -> str | None:
        """Why the actor can't be used; None where it can."""
        theirs = facts.versions
        if theirs["heretic"] != self._ours["heretic"]:
            return (
                f"expected heretic {self._ours['heretic']} on {facts.host}, as the driver has, found "
                f"{theirs['heretic']}. Install that version there."
            )
        others = [
            f"{name} {theirs[name]} (here {self._ours[name]})" for name in COMPARED if theirs[name] != self._ours[name]
        ]
        if others and facts.host not in self._named:
            self._named.add(facts.host)
            self._reporter.warn(
                f"{facts.host} has {' and '.join(others)}: metrics of its actors may differ in their last digits. "
                "Install the same releases for a study that can be repeated."
            )
        return None


def _system(ray: Any, session: Session) -> RaySystem:
    settings, checkpoint = session.settings, session.checkpoint
    on_gpus = ray.cluster_resources().get("GPU", 0) > 0
    needs = ActorNeeds(
        gpus=settings.gpus_per_model if on_gpus else 0,
        cpus=1 if on_gpus else settings.threads_per_model,
        # On a CPU the weights are in RAM, possibly as float32 where the files have 16 bits.
        memory=OVERHEAD + (0 if on_gpus else 2 * _size(checkpoint)),
    )
    source = file_source(checkpoint, file_reader(ray, partial(read_piece, checkpoint.directory)))
    # An actor has no more permissions than the user granted: its settings are the driver's, permissions included.
    spec = WorkerSpec(
        settings=changed(settings, {"ray": False, "ray_address": None, "storage": None}),
        prompts=session.prompts,
        model=source,
        threads=None if on_gpus else settings.threads_per_model,
        gpus=needs.gpus,
        journal=session.path.name,
        ranks=_ranks(session) if on_gpus else 1,
    )
    return RaySystem(ray, needs, partial(ShardedWorker if spec.ranks > 1 else ModelWorker, spec))


def _ranks(session: Session) -> int:
    """Processes of one actor: one for each of its GPUs where transformers has a plan for the family; else one, whose
    device map spreads the model."""
    settings, checkpoint = session.settings, session.checkpoint
    count = int(settings.gpus_per_model)
    if count < 2 or count != settings.gpus_per_model or settings.device_map != "auto" or settings.max_memory:
        return 1
    # Learning needs gradients, which have not been proved to be right through transformers' sharded products.
    learned = settings.method == "learned"
    plain = settings.quantization == "none" and checkpoint.gguf_file is None and not learned
    return count if plain and can_be_sharded(configuration(checkpoint, settings), count) else 1


def _size(checkpoint: Checkpoint) -> int:
    return sum((checkpoint.directory / name).stat().st_size for name in checkpoint.weight_files())
