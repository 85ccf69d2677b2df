"""The object that an actor holds: it runs tasks on a model in its own engine. It does not depend on Ray."""

import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ...ablation.methods.tensors import StudyTensors
from ...ablation.sites import Site
from ...ablation.weight_stats import WeightStats
from ...config import Settings
from ...engine.batch_size import MAX_CANDIDATES
from ...engine.generation_rules import GenerationRules
from ...engine.local import LocalEngine
from ...engine.protocol import MEMORY_ERRORS, Progress, RuntimeProfile, out_of_memory
from ...errors import NoMemoryError, UserError
from ...model.accelerator import device_name, limit_memory
from ...model.chat.format import ChatFormat
from ...model.sharding import agreed, ranks
from ...session.context import LoadedStudy, Session
from ...session.engine import open_engine
from ...session.prompts import RunPrompts
from ...session.records import versions
from ...session.response_log import counting_evaluator
from ...session.shared_forwards import choose_candidates, prepare_search
from ...study.schema import BASELINE, StudyRecord
from ..measurer import EvaluationRequest, EvaluationResult, InProcessMeasurer
from .checkpoint_files import FileSource, checkpoint_here
from .notes import Notes
from .system import ActorFacts, Answer, Refused, Status

Work = Callable[..., Any]
"""A function of an engine, its arguments, and `progress` by keyword."""


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """Everything that a worker needs to load the model as the driver would: settings, prompts, and the model's files,
    on its own machine or from the driver's. `ranks` is the number of processes that hold the model together."""

    settings: Settings
    prompts: RunPrompts
    model: FileSource
    threads: int | None
    gpus: float
    journal: str
    ranks: int = 1


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the driver's engine knows of the model without its weights."""

    profile: RuntimeProfile
    chat: ChatFormat
    sites: tuple[Site, ...]
    gains: Mapping[str, torch.Tensor]
    candidates: int
    pads: bool
    class_name: str
    generation_config: Any
    rules: GenerationRules | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StudyState:
    """The study's state from which candidates are compiled, and with which they are compared."""

    record: StudyRecord
    tensors: StudyTensors
    stats: Mapping[str, WeightStats]


class Cancelled(Exception):
    """The task was cancelled: another actor was faster."""


class ModelWorker:
    """Performs tasks one by one; `status` and `cancel` are called from another thread."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._spec = spec
        self._doing = "starting"
        self._rows = 0
        self._cancelled: set[int] = set()
        self._lock = threading.Lock()
        self._engine: LocalEngine | None = None
        self._session: Session | None = None
        self._measurer: InProcessMeasurer | None = None
        self._store: dict[str, Mapping[str, torch.Tensor]] = {}
        self._notes = Notes(self._note)

    def open(self, known: RuntimeProfile | None) -> ActorFacts | Refused:
        """Loads the model; without a `known` profile, measures one."""
        if self._spec.threads is not None:
            torch.set_num_threads(self._spec.threads)
        if 0 < self._spec.gpus < 1:
            # Other actors share the GPU and need their part of its memory.
            limit_memory(self._spec.gpus)
        host = socket.gethostname()
        try:
            checkpoint = checkpoint_here(self._spec.model, self._note)
            self._doing = "loading"
            self._session = Session(
                self._spec.settings, self._spec.prompts, checkpoint, self._notes, Path(self._spec.journal)
            )
            self._engine = open_engine(self._session, known, prepare_search)
            profile = self._engine.profile
            candidates = choose_candidates(self._session, self._engine) if known is None else 1
        except UserError as error:
            return Refused(f"{error} (on {host})")
        self._doing = "idle"
        device = self._engine.loaded.device
        shown = device_name(device) if device.type != "cpu" else f"CPU, {torch.get_num_threads()} threads"
        if ranks() > 1:
            shown = f"{ranks()} x {shown}"
        return ActorFacts(host, shown, versions(), self._facts(candidates, profile))

    def begin(self, state: StudyState) -> None:
        """Receives the study, and measures the baseline's reference here, as a resumed study does."""
        assert self._engine is not None and self._session is not None
        self._doing = "measuring the baseline"
        evaluator = counting_evaluator(
            self._engine, self._session.settings, self._session.prompts, f"the {BASELINE}", self._notes
        )
        tensors = replace(state.tensors, store=self._store)
        study = LoadedStudy(self._session, state.record, self._engine, tensors, state.stats)
        baseline = evaluator.baseline(recorded=state.record.baseline)
        self._measurer = InProcessMeasurer(evaluator, baseline, study.compile, MAX_CANDIDATES, warn=self._notes.warn)
        self._notes.take()
        self._doing = "idle"

    def perform(self, task: int, method: str, title: str, *arguments: Any) -> Answer:
        """The result of `measure`, or of a function of the engine (`run`)."""
        self._doing, self._rows = title, 0

        def progress(rows: int) -> None:
            self._rows += rows
            with self._lock:
                cancelled = task in self._cancelled
                self._cancelled.discard(task)
            # The ranks of a sharded model end a task at the same forward.
            if agreed(cancelled):
                raise Cancelled

        try:
            value = getattr(self, f"_{method}")(progress, *arguments)
        except Cancelled:
            return Answer(None, self._rows, cancelled=True)
        except NoMemoryError as error:
            return Answer(None, self._rows, self._notes.take(), lacked=str(error))
        finally:
            self._doing = "idle"
        return Answer(value, self._rows, self._notes.take())

    def status(self) -> Status:
        return Status(self._doing, self._rows)

    def cancel(self, task: int) -> None:
        with self._lock:
            self._cancelled.add(task)

    def _measure(
        self,
        progress: Progress,
        requests: Sequence[EvaluationRequest],
        batch_size: int,
        tensors: Mapping[str, Mapping[str, torch.Tensor]],
    ) -> list[EvaluationResult]:
        """Outcomes of requests that share forwards where this actor's memory suffices for all of them; `tensors` are
        those that their parameters name by digest."""
        assert self._measurer is not None and self._engine is not None
        self._store.clear()
        self._store.update(tensors)
        self._use_batch_size(batch_size)
        return self._measurer.measure(requests, progress)

    def _run(self, progress: Progress, work: Work, prefix: str, batch_size: int, *arguments: Any) -> Any:
        """The result of `work` on this engine; the rows per forward are halved when memory runs out."""
        engine = self._engine
        assert engine is not None
        self._use_batch_size(batch_size)
        while True:
            try:
                with engine.with_prefix(prefix), torch.inference_mode():
                    return work(engine, *arguments, progress=progress)
            except MEMORY_ERRORS as error:
                if not out_of_memory(error):
                    raise
            if not engine.halve_batch_size():
                raise NoMemoryError("A prompt needs more memory than there is, even row by row. Set quantization.")

    def _use_batch_size(self, batch_size: int) -> None:
        """The driver's batch size, unless this actor ran out of memory with it before."""
        assert self._engine is not None
        if self._asked_batch_size != batch_size:
            self._engine.set_batch_size(batch_size)
            self._asked_batch_size = batch_size

    _asked_batch_size = 0

    def _note(self, text: str) -> None:
        self._doing = text

    def _facts(self, candidates: int, profile: RuntimeProfile) -> ModelFacts:
        engine = self._engine
        assert engine is not None
        gains = {site.module: gain.cpu() for site in engine.sites if (gain := engine.gain(site)) is not None}
        return ModelFacts(
            profile=profile,
            chat=engine.chat,
            sites=engine.sites,
            gains=gains,
            candidates=candidates,
            pads=engine.prefill.pads,
            class_name=type(engine.loaded.model).__name__,
            generation_config=engine.loaded.model.generation_config,
            rules=None if engine.rules is None else GenerationRules(engine.rules.values, engine.rules.ends),
            notes=self._notes.take(),
        )
