"""Learning in several processes on a CPU: the groups of rows of each step, and the model's own answers.

Threads of one process gain little, since products are small and operations many. Processes are forked for each step
and have the tensors of that moment; a fork takes about 0.1 s. Groups, parts and the order of sums do not depend on the
number of processes, so results don't either.
"""

import pickle
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import torch

from ..ablation.edit import ModelEdit
from ..engine.learning.step import Gradients, GroupLoss, LossWeights, Part, StepRunner
from ..engine.protocol import Engine, Progress, Response
from ..prompts.prompt import Prompt
from .process_pool import forked, signals_held

Result = TypeVar("Result")

MOST_PROMPTS, FEWEST_PROMPTS = 100, 32
"""Prompts of one part: at most, and the fewest that are worth a second process."""


class ForkedStepRunner(StepRunner):
    """Takes steps whose groups of rows run in `processes` processes."""

    def __init__(self, alone: StepRunner, processes: int) -> None:
        super().__init__(alone.forward, alone.most)
        self._processes = processes

    def gradients(
        self, edits: Sequence[ModelEdit], weights: Sequence[LossWeights], groups: Sequence[Sequence[Part]]
    ) -> Iterator[tuple[GroupLoss, Gradients]]:
        count = min(self._processes, len(groups))
        found = in_processes([partial(self._share, edits, weights, groups[n::count]) for n in range(count)])
        return (found[number % count][number // count] for number in range(len(groups)))

    def _share(
        self, edits: Sequence[ModelEdit], weights: Sequence[LossWeights], groups: Sequence[Sequence[Part]]
    ) -> list[tuple[GroupLoss, Gradients]]:
        return list(super().gradients(edits, weights, groups))


class ForkedAnswers:
    """Responses of an engine, generated in up to `processes` processes."""

    def __init__(self, engine: Engine, processes: int) -> None:
        self._engine = engine
        self._processes = processes

    def __call__(
        self, prompts: Sequence[Prompt], edits: Sequence[ModelEdit], length: int, progress: Progress
    ) -> list[list[Response]]:
        """The responses by edit and prompt, each of at most `length` tokens."""
        parts, generate = parts_of_prompts(prompts), self._engine.generate
        answered: list[list[list[Response]]] = []
        for start in range(0, len(parts), self._processes):
            now = parts[start : start + self._processes]
            answered += in_processes([partial(generate, part, edits, length, None, _ignored) for part in now])
            progress(sum(map(len, now)))
        return [[each for part in answered for each in part[number]] for number in range(len(edits))]


def parts_of_prompts(prompts: Sequence[Prompt]) -> list[Sequence[Prompt]]:
    """Parts of equal length; at least two where each has `FEWEST_PROMPTS`."""
    count = max(-(-len(prompts) // MOST_PROMPTS), min(2, len(prompts) // FEWEST_PROMPTS), 1)
    size = max(1, -(-len(prompts) // count))
    return [prompts[start : start + size] for start in range(0, len(prompts), size)]


def in_processes(tasks: Sequence[Callable[[], Result]]) -> list[Result]:
    """The results of `tasks`: of the first one in this process, of each other one in a forked one, with a thread each.

    A process that dies, for want of memory perhaps, leaves its task to this one.

    Raises:
        RuntimeError: a task failed in its process; with the words of its error.
    """
    first, *others = tasks
    if not others:
        return [first()]
    threads, started = torch.get_num_threads(), []
    try:
        with signals_held():
            started += [forked(_answer, task) for task in others]
        torch.set_num_threads(1)
        return [first(), *(_result(connection, task) for (connection, _), task in zip(started, others, strict=True))]
    finally:
        torch.set_num_threads(threads)
        for connection, process in started:
            process.kill()
            process.join()
            connection.close()


def _answer(connection: Connection, task: Callable[[], Result]) -> None:
    try:
        message: tuple[bool, Any] = True, task()
    except Exception:  # noqa: BLE001 (the parent raises it, whatever it is)
        message = False, traceback.format_exc()
    # Not by `send`, which passes tensors as files of shared memory.
    connection.send_bytes(pickle.dumps(message))


def _result(connection: Connection, task: Callable[[], Result]) -> Result:
    try:
        done, content = pickle.loads(connection.recv_bytes())
    except (EOFError, ConnectionResetError):
        return task()
    if not done:
        raise RuntimeError(content)
    return content


def _ignored(_: int) -> None:
    """The parent counts whole parts."""
