"""Measures candidates of a search, and those of a held-out evaluation, on actors."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from torch import Tensor

from ...engine.protocol import Progress
from ...errors import CandidateError
from ...evaluation.heldout.evaluate import HeldoutBaseline, HeldoutEvaluator, HeldoutPrompts, HeldoutRequest
from ...evaluation.heldout.measurer import HeldoutMeasurer, HeldoutResult, SharedForwards
from ...events import WorkerState
from ...session.context import LoadedStudy, RunningStudy
from ...session.shared_forwards import batch_size_for
from ..heldout_pool import heldout_measurer
from ..measurer import EvaluationRequest, EvaluationResult, InProcessMeasurer, Measurer
from ..parallelism import Parallelism, choose_parallelism, heldout_parallelism
from ..process_pool import AHEAD, workers
from . import calls
from .engine import RemoteEngine
from .pool import ActorPool
from .tasks import MOST_LOSSES, Task, TaskOutcome
from .worker import StudyState

MOST_LOSSES_TOGETHER = 2
"""Actors that may die during a group of candidates, before it is halved, and later groups with it: one of the group may
be the reason, or their number."""


def chosen_parallelism(loaded: LoadedStudy, vocab: int) -> Parallelism:
    """The parallelism of this process, or of one actor; values left open are measured once and recorded."""
    if isinstance(loaded.engine, RemoteEngine):
        return Parallelism(1, loaded.engine.facts.candidates)
    return choose_parallelism(loaded, vocab)


def open_heldout(loaded: LoadedStudy, part: HeldoutPrompts, search: Parallelism, vocab: int) -> HeldoutMeasurer:
    """The measurer of the held-out evaluation after the `search`."""
    if isinstance(loaded.engine, RemoteEngine):
        return ActorHeldout(loaded.engine)
    return heldout_measurer(heldout_parallelism(loaded, part, search, vocab))


@contextmanager
def open_measurer(running: RunningStudy, parallelism: Parallelism) -> Iterator[Measurer]:
    """The measurer of a study's candidates: actors, several processes, or this one."""
    loaded = running.loaded
    engine, settings = loaded.engine, loaded.settings
    candidates, open_candidates = parallelism.candidates, settings.open_candidates
    if isinstance(engine, RemoteEngine):
        engine.pool.drop_tasks()
        engine.pool.begin(StudyState(loaded.record, replace(loaded.tensors, store={}), loaded.stats))
        prompts = len(loaded.session.prompts.bad_evaluation)
        batch_size = batch_size_for(candidates, engine.batch_size, prompts)
        yield ActorMeasurer(engine.pool, batch_size, candidates, open_candidates, loaded.tensors.store)
        return
    compiled, warn = loaded.compile, running.reporter.warn
    alone = InProcessMeasurer(running.evaluator, running.baseline, compiled, candidates, open_candidates, warn)
    with workers(parallelism.processes, alone, open_candidates) as measurer:
        yield measurer


class ActorMeasurer:
    """Sends requests to actors in groups of `candidates`, which share an actor's forwards.

    Groups are consecutive requests, whichever actor is free, so a study depends only on the number of open requests,
    not on that of actors. `open_candidates` fixes the number of open requests; by default it is twice what all actors
    measure at once, and grows with them. Tensors that candidates name by digest are sent along from `store`.
    """

    def __init__(
        self,
        pool: ActorPool,
        batch_size: int,
        candidates: int = 1,
        open_candidates: int = 0,
        store: Mapping[str, Mapping[str, Tensor]] | None = None,
    ) -> None:
        self._pool = pool
        self._store = {} if store is None else store
        self._batch_size = batch_size
        self._candidates = self._together = candidates
        self._open_candidates = open_candidates
        self._group: list[EvaluationRequest] = []
        self._measured_by: dict[int, str] = {}

    @property
    def ahead(self) -> int:
        return self._open_candidates or AHEAD * self._candidates * max(1, self._pool.size)

    def workers(self) -> Sequence[WorkerState]:
        return self._pool.workers

    def measured_by(self, number: int) -> str | None:
        return self._measured_by.pop(number, None)

    def submit(self, job: EvaluationRequest) -> None:
        if self._group and self._group[0].preview != job.preview:
            self._send()
        self._group.append(job)
        if len(self._group) == self._candidates:
            self._send()

    def outcomes(self, progress: Progress) -> list[EvaluationResult]:
        # Nothing more is requested before one of these is reported.
        self._send()
        results: list[EvaluationResult] = []
        while not results:
            for outcome in self._pool.outcomes(progress):
                results += self._results(outcome)
        return results

    def _send(self) -> None:
        group, self._group = self._group, []
        if group:
            self._submit_parts(group)

    def _submit_parts(self, group: Sequence[EvaluationRequest]) -> None:
        """In parts of as many as actors survive, with the limits of the group's first request, which all would have in
        one part: so the study stays the same."""
        first = group[0]
        same = [replace(each, limit=first.limit, statistics=first.statistics) for each in group]
        for start in range(0, len(same), self._together):
            self._submit(same[start : start + self._together])

    def _submit(self, group: Sequence[EvaluationRequest]) -> None:
        digests = {digest for each in group for digest in each.parameters.digests}
        tensors = {digest: dict(self._store[digest]) for digest in sorted(digests)}
        most_losses = MOST_LOSSES if len(group) == 1 else MOST_LOSSES_TOGETHER
        self._pool.submit(Task("measure", (group, self._batch_size, tensors), _title(group), most_losses))

    def _results(self, outcome: TaskOutcome) -> list[EvaluationResult]:
        requests: Sequence[EvaluationRequest] = outcome.task.arguments[0]
        if outcome.lost is not None:
            if len(requests) == 1:
                return [(requests[0], CandidateError(f"every actor that measured it died ({outcome.lost})"))]
            self._together = min(self._together, len(requests) // 2)
            self._submit_parts(requests)
            return []
        for request in requests:
            if not request.preview:
                self._measured_by[request.number] = outcome.actor
        return [(request, each) for request, (_, each) in zip(requests, outcome.value, strict=True)]


class ActorHeldout:
    """Splits the prompts of the baseline over all actors, and then measures each candidate on one."""

    def __init__(self, engine: RemoteEngine) -> None:
        self._engine = engine

    def measure(
        self, evaluator: HeldoutEvaluator, requests: Sequence[HeldoutRequest], progress: Progress
    ) -> Generator[HeldoutBaseline | HeldoutResult, None, None]:
        self._engine.pool.drop_tasks()
        [baseline] = SharedForwards().measure(evaluator, [], progress)
        assert isinstance(baseline, HeldoutBaseline)
        yield baseline
        pool = self._engine.pool
        shared, tasks = pool.share(baseline), {}
        for request in requests:
            title = f"held-out prompts of trial {request.trial}"
            task = self._engine.task(title, calls.heldout, evaluator.elsewhere(), [request], shared)
            tasks[task] = request
            pool.submit(task)
        while tasks:
            for outcome in pool.outcomes(progress):
                request = tasks.pop(outcome.task)
                lost = CandidateError(f"every actor that measured it died ({outcome.lost})")
                yield HeldoutResult(request, outcome.value[0] if outcome.lost is None else lost)


def _title(group: Sequence[EvaluationRequest]) -> str:
    first, last = group[0].number, group[-1].number
    if group[0].preview:
        return "previews"
    return f"trial {first}" if first == last else f"trials {first} to {last}"
