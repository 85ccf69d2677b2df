"""Learning in several processes on a CPU: the groups of rows of each step, and the model's own answers.

Threads of one process gain little, since products are small and operations many. Processes are forked for each step
and have the tensors of that moment; a fork takes about 0.1 s. Groups, parts and the order of sums do not depend on the
number of processes, so results don't either.
"""

import pickle
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import torch

from ..ablation.edit import ModelEdit
from ..engine.batch_size import whole_responses
from ..engine.learning.step import Gradients, GroupLoss, LossWeights, Part, StepRunner
from ..engine.local import LocalEngine
from ..engine.protocol import Progress, Response, no_progress
from ..errors import ModelError
from ..model.accelerator import accelerator
from ..prompts.prompt import Prompt
from .child_process import LOST, end_processes, failure, start_processes
from .process_pool import can_fork

Result = TypeVar("Result")

MOST_PROMPTS, FEWEST_PROMPTS = 100, 32
"""Prompts of one part: at most, and the fewest that are worth a second process."""


class ForkedTasks:
    """Runs tasks in up to `count` processes with a thread each: this one, and others that are forked for them.

    A process that dies or lacks memory leaves its task to this one, and later tasks have one process fewer.
    """

    def __init__(self, count: int, warn: Callable[[str], None] = warnings.warn) -> None:
        self.count = count
        self._warn = warn

    def run(self, tasks: Sequence[Callable[[], Result]]) -> list[Result]:
        """The results of at most `count` tasks.

        Raises:
            ModelError, RuntimeError: a task failed in its process; with the words of its error.
        """
        first, *others = tasks
        if not others:
            return [first()]
        threads = torch.get_num_threads()
        started: list[tuple[Connection, Any]] = []
        try:
            start_processes(started, _answer, [(task,) for task in others])
            torch.set_num_threads(1)
            found = [(first(),), *(_received(connection) for connection, _ in started)]
            found += [None] * (len(tasks) - len(found))
            self._note_lost(found.count(None), len(tasks))
            return [task() if each is None else each[0] for task, each in zip(tasks, found, strict=True)]
        finally:
            torch.set_num_threads(threads)
            end_processes(started)

    def _note_lost(self, lost: int, used: int) -> None:
        if lost:
            self.count = max(1, min(self.count, used) - lost)
            self._warn(
                f"{lost} of {used} processes that learn died, lacked memory or could not be started: {self.count} "
                "will go on, with the same results. Set n_workers to begin with fewer."
            )


class ForkedStepRunner(StepRunner):
    """Takes steps whose groups of rows run in several processes."""

    def __init__(self, alone: StepRunner, processes: ForkedTasks) -> None:
        super().__init__(alone.forward, alone.most)
        self._processes = processes

    def gradients(
        self, edits: Sequence[ModelEdit], weights: Sequence[LossWeights], groups: Sequence[Sequence[Part]]
    ) -> Iterator[tuple[GroupLoss, Gradients]]:
        count = min(self._processes.count, len(groups))
        found = self._processes.run([partial(self._share, edits, weights, groups[n::count]) for n in range(count)])
        return (found[number % count][number // count] for number in range(len(groups)))

    def _share(
        self, edits: Sequence[ModelEdit], weights: Sequence[LossWeights], groups: Sequence[Sequence[Part]]
    ) -> list[tuple[GroupLoss, Gradients]]:
        return list(super().gradients(edits, weights, groups))


class ForkedAnswers:
    """Responses of an engine, generated in several processes."""

    def __init__(self, engine: LocalEngine, processes: ForkedTasks) -> None:
        self._engine = engine
        self._processes = processes

    def __call__(
        self, prompts: Sequence[Prompt], edits: Sequence[ModelEdit], length: int, progress: Progress
    ) -> list[list[Response]]:
        """The responses by edit and prompt, each of at most `length` tokens."""
        parts, answered = parts_of_prompts(prompts), list[list[list[Response]]]()
        while len(answered) < len(parts):
            now = parts[len(answered) : len(answered) + self._processes.count]
            shown = _Scaled(progress, len(now[0]), sum(map(len, now)))
            tasks = [
                partial(whole_responses, self._engine, part, edits, length, no_progress if number else shown)
                for number, part in enumerate(now)
            ]
            answered += self._processes.run(tasks)
            shown.finish()
        return [[each for part in answered for each in part[number]] for number in range(len(edits))]


class _Scaled:
    """Progress of all parts that run at once, by that of the first: they have equal lengths."""

    def __init__(self, progress: Progress, own: int, of_all: int) -> None:
        self._progress = progress
        self._own, self._of_all = own, of_all
        self._done = self._shown = 0

    def __call__(self, count: int) -> None:
        # Prompts that are repeated with fewer rows, after memory ran out, are counted once.
        self._done = min(self._done + count, self._own)
        self._show(self._of_all * self._done // self._own)

    def finish(self) -> None:
        self._show(self._of_all)

    def _show(self, done: int) -> None:
        self._progress(done - self._shown)
        self._shown = done


def can_fork_steps(device: torch.device) -> bool:
    """Whether forked processes can run backward passes: not on a machine with an accelerator, even for a model on its
    CPU, since autograd's threads for it are not forked."""
    return can_fork(device) and accelerator() is None


def parts_of_prompts(prompts: Sequence[Prompt]) -> list[Sequence[Prompt]]:
    """Parts of equal length; at least two where each has `FEWEST_PROMPTS`."""
    count = max(-(-len(prompts) // MOST_PROMPTS), min(2, len(prompts) // FEWEST_PROMPTS), 1)
    size = max(1, -(-len(prompts) // count))
    return [prompts[start : start + size] for start in range(0, len(prompts), size)]


def _answer(connection: Connection, task: Callable[[], Any]) -> None:
    # Each new process would show the warnings that this one shows once, at its own task.
    warnings.simplefilter("ignore")
    try:
        # Not by `send`, which passes tensors as files of shared memory.
        message = pickle.dumps(("done", task()))
    except Exception as error:  # noqa: BLE001 (the parent raises it, whatever it is)
        message = pickle.dumps(failure(error))
    connection.send_bytes(message)


def _received(connection: Connection) -> tuple[Any] | None:
    """What a process has found; None if it died or lacks memory."""
    try:
        kind, content = pickle.loads(connection.recv_bytes())
    except LOST:
        return None
    if kind == "user":
        raise ModelError(content)
    if kind == "error":
        raise RuntimeError(f"a process that learns failed:\n{content}")
    return None if kind == "memory" else (content,)
