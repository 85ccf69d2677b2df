"""Learning in several processes on a CPU: the groups of rows of each step, and the model's own answers.

Threads of one process gain little, since products are small and operations many. Processes are forked for each step
and have the tensors of that moment; a fork takes about 0.1 s. Groups, parts, the order of sums and the threads of each
do not depend on the number of processes from two on, so results don't either. One process alone uses all threads, whose
sums may differ in the last bits.
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
from ..engine.learning.step import Gradients, GroupLoss, LossWeights, Part, StepRunner, group_gradients
from ..engine.local import LocalEngine
from ..engine.protocol import Progress, Response, no_progress
from ..errors import ModelError
from ..model.accelerator import accelerator
from ..prompts.prompt import Prompt
from .child_process import LOST, end_processes, failure, start_processes
from .process_pool import can_fork

Result = TypeVar("Result")

MOST_PROMPTS, FEWEST_PROMPTS = 100, 32
"""Prompts of one part: at most, and the fewest that are worth another process."""


class ForkedTasks:
    """Runs tasks in `count` processes with a thread each: this one, and others that are forked for them.

    A process that dies or lacks memory leaves its tasks to this one, and later tasks have one process fewer. A `count`
    of 1 runs all tasks here, with all threads.
    """

    def __init__(self, count: int, warn: Callable[[str], None] = warnings.warn) -> None:
        self.count = count
        self._one_thread = count > 1
        self._warn = warn

    def run(self, tasks: Sequence[Callable[[], Result]]) -> list[Result]:
        """The results of the tasks, of which process n takes each `count`-th from the n-th on.

        Raises:
            ModelError, RuntimeError: a task failed in its process; with the words of its error.
        """
        # Whatever `count` is now: results stay the same after a process was lost.
        if not self._one_thread or len(tasks) < 2:
            return [task() for task in tasks]
        used = min(self.count, len(tasks))
        first, *others = [partial(_all_of, tasks[number::used]) for number in range(used)]
        threads = torch.get_num_threads()
        started: list[tuple[Connection, Any]] = []
        try:
            start_processes(started, _answer, [(each,) for each in others])
            torch.set_num_threads(1)
            found = [first(), *(_received(connection) for connection, _ in started)]
            found += [None] * (used - len(found))
            self._note_lost(found.count(None), used)
            done = [each if each is not None else _all_of(tasks[number::used]) for number, each in enumerate(found)]
            return [done[number % used][number // used] for number in range(len(tasks))]
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
    """Takes steps whose groups of rows run in several processes, or in this one where its threads are more than these
    processes would be: a step has few groups, and their products are large enough for many threads."""

    def __init__(self, alone: StepRunner, processes: ForkedTasks) -> None:
        super().__init__(alone.forward, alone.most)
        self._processes = processes
        # Not those that are left: one that dies must not change the results.
        self._wanted = processes.count

    def gradients(
        self, edits: Sequence[ModelEdit], weights: Sequence[LossWeights], groups: Sequence[Sequence[Part]]
    ) -> Iterator[tuple[GroupLoss, Gradients]]:
        if min(self._wanted, len(groups)) < torch.get_num_threads():
            return super().gradients(edits, weights, groups)
        return iter(
            self._processes.run([partial(group_gradients, self.forward, edits, weights, group) for group in groups])
        )


class ForkedAnswers:
    """Responses of an engine, generated in several processes."""

    def __init__(self, engine: LocalEngine, processes: ForkedTasks) -> None:
        self._engine = engine
        self._processes = processes
        # By the machine, not by the number of processes: each batch rounds in its own way.
        self._parts = max(2, torch.get_num_threads()) if processes.count > 1 else 2

    def __call__(
        self, prompts: Sequence[Prompt], edits: Sequence[ModelEdit], length: int, progress: Progress
    ) -> list[list[Response]]:
        """The responses by edit and prompt, each of at most `length` tokens."""
        parts, count = parts_of_prompts(prompts, self._parts), self._processes.count
        shown = _Scaled(progress, sum(map(len, parts[::count])), len(prompts))
        tasks = [
            partial(whole_responses, self._engine, part, edits, length, no_progress if number % count else shown)
            for number, part in enumerate(parts)
        ]
        answered = self._processes.run(tasks)
        shown.finish()
        return [[each for part in answered for each in part[number]] for number in range(len(edits))]


class _Scaled:
    """Progress of all processes, by that of this one, whose parts have `own` of `of_all` prompts."""

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


def parts_of_prompts(prompts: Sequence[Prompt], most: int) -> list[Sequence[Prompt]]:
    """Parts of equal length, of `MOST_PROMPTS` at most; `most` of them where each has `FEWEST_PROMPTS`."""
    count = max(-(-len(prompts) // MOST_PROMPTS), min(most, len(prompts) // FEWEST_PROMPTS), 1)
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


def _all_of(tasks: Sequence[Callable[[], Result]]) -> list[Result]:
    return [task() for task in tasks]


def _received(connection: Connection) -> list[Any] | None:
    """The results of a process; None if it died or lacks memory."""
    try:
        kind, content = pickle.loads(connection.recv_bytes())
    except LOST:
        return None
    if kind == "user":
        raise ModelError(content)
    if kind == "error":
        raise RuntimeError(f"a process that learns failed:\n{content}")
    return None if kind == "memory" else content
