"""Workers with real models in this process: what actors compute, without Ray."""

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from heretic.config import Settings
from heretic.model.loading.checkpoint import Checkpoint
from heretic.prompts.prompt import Prompt, PromptSet
from heretic.search.cluster.checkpoint_files import file_source
from heretic.search.cluster.engine import RemoteEngine
from heretic.search.cluster.open import remote_engine
from heretic.search.cluster.pool import ActorPool
from heretic.search.cluster.worker import ModelWorker, WorkerSpec
from heretic.session.context import Session
from heretic.session.prompts import RunPrompts
from tests.support.planted import planted_prompts
from tests.support.recorders import Recorder

SETTINGS = Settings(method="kernel", system_prompt="none", dtypes=["float32"], batch_size=16, max_response_length=4)


class InlineSystem:
    """Runs each call when it is waited for; everything that is sent is pickled on the way."""

    def __init__(self, count: int, spec: WorkerSpec) -> None:
        self.workers: list[ModelWorker] = []
        self._count, self._spec = count, spec

    def room(self) -> list[str]:
        return ["here"] * (self._count - len(self.workers))

    def name(self, node: str) -> str:
        return node

    def start(self, node: str) -> ModelWorker:
        self.workers.append(ModelWorker(self._spec))
        return self.workers[-1]

    def call(self, actor: ModelWorker, method: str, *arguments: Any) -> tuple[ModelWorker, str, bytes]:
        if method == "cancel":
            actor.cancel(*arguments)
        return actor, method, pickle.dumps(arguments)

    def now(self) -> float:
        return 0.0

    def wait(self, calls: Sequence[Any], seconds: float) -> list[Any]:
        return list(calls)

    def result(self, call: tuple[ModelWorker, str, bytes]) -> Any:
        actor, method, sent = call
        arguments = pickle.loads(sent)
        if method == "begin":
            actor.begin(arguments[1])
            return arguments[0]
        return pickle.loads(pickle.dumps(getattr(actor, method)(*arguments)))

    def end(self, actor: ModelWorker) -> None:
        self.workers.remove(actor)

    def share(self, value: Any) -> Any:
        return value


def planted_session(directory: Path, settings: Settings = SETTINGS) -> Session:
    """The planted model that was written to `directory`, with a few prompts of each kind."""
    sets = [
        PromptSet("planted", tuple(map(Prompt, planted_prompts(count, bad, seed))))
        for count, bad, seed in ((37, False, 1), (33, True, 2), (12, False, 3), (12, True, 4))
    ]
    model = directory / "planted"
    return Session(
        settings, RunPrompts(*sets, sources={}), Checkpoint(str(model), model), Recorder(), directory / "s.jsonl"
    )


def worker_spec(session: Session) -> WorkerSpec:
    source = file_source(session.checkpoint, _nothing)
    return WorkerSpec(session.settings, session.prompts, source, torch.get_num_threads(), 0, "s.jsonl")


def engine_on_actors(session: Session, count: int) -> tuple[RemoteEngine, InlineSystem]:
    """The driver's engine on so many workers."""
    system = InlineSystem(count, worker_spec(session))
    pool = ActorPool(system, session.reporter)
    engine = remote_engine(pool, session, None)
    while not all(worker._engine is not None for worker in system.workers):
        pool._turn(_ignored)
    return engine, system


def _nothing(name: str, offset: int, length: int) -> bytes:
    raise AssertionError("the files are on this machine")


def _ignored(_: int) -> None:
    pass
