"""Learning in several processes gives what one process gives."""

import os
import warnings
from collections.abc import Callable
from functools import partial
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import pytest
import torch

from heretic.engine.learning.path import LearningSettings, PathLearner
from heretic.engine.learning.step import StepRunner
from heretic.engine.learning.targets import Targets
from heretic.engine.protocol import NO_MEMORY, no_progress
from heretic.errors import ModelError
from heretic.search import forked_learning
from heretic.search.forked_learning import (
    ForkedAnswers,
    ForkedStepRunner,
    ForkedTasks,
    can_fork_steps,
    parts_of_prompts,
)
from heretic.session.engine import open_engine
from tests.support.accelerators import FakeAccelerator, use_accelerator
from tests.support.families import tiny
from tests.support.inline_actors import planted_session
from tests.support.learned import forward_of, layout_for, loaded_of, random_tensors, rows, scored
from tests.support.measurers import die_while_sending

SETTINGS = LearningSettings(lambdas=(3.0,), good_rows=4, bad_rows=3, refusal_rows=3, scored=3, answer_tokens=5)


def after_two_steps(wrapped: Callable[[StepRunner], StepRunner]) -> PathLearner:
    loaded = loaded_of(tiny("llama"))
    layout = layout_for(loaded)
    targets = Targets(tuple(rows(8)), tuple(rows(4, 7)), tuple(scored(rows(6, 5), (1, 2, 3))))
    start = random_tensors(layout, loaded.d_model)
    path = PathLearner(layout, start, targets, SETTINGS, torch.Generator().manual_seed(4), loaded.device)
    forward = forward_of(loaded)
    forward.prepare(targets.answers, targets.pieces)
    runner = wrapped(StepRunner(forward, 30))
    for _ in range(2):
        runner.take([path])
    return path


def test_a_step_does_not_depend_on_the_number_of_processes() -> None:
    alone = after_two_steps(lambda runner: runner)
    for processes in (1, 2, 3):
        path = after_two_steps(lambda runner, count=processes: ForkedStepRunner(runner, ForkedTasks(count)))
        assert path.losses == alone.losses
        for name, tensor in alone.tensors.items():
            assert torch.equal(path.tensors[name], tensor)


def test_a_step_runs_here_where_there_are_more_threads_than_groups() -> None:
    """Processes of one thread for its five groups would leave all other cores idle."""
    ran: list[int] = []

    class Counting(ForkedTasks):
        def run(self, tasks: Any) -> Any:
            ran.append(len(tasks))
            return super().run(tasks)

    before = torch.get_num_threads()
    try:
        for threads, expected in ((16, []), (1, [5, 5])):
            torch.set_num_threads(threads)
            ran.clear()
            after_two_steps(lambda runner: ForkedStepRunner(runner, Counting(8)))
            assert ran == expected
    finally:
        torch.set_num_threads(before)


def test_answers_do_not_depend_on_the_number_of_processes(
    planted_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forked_learning, "FEWEST_PROMPTS", 4)
    session = planted_session(planted_directory)
    engine, prompts = open_engine(session), session.prompts.bad.prompts[:9]
    done: list[int] = []
    alone, several = (ForkedAnswers(engine, ForkedTasks(count))(prompts, [{}, {}], 4, done.append) for count in (1, 2))
    assert alone == several
    assert [len(each) for each in alone] == [9, 9]
    assert alone == engine.generate(prompts, [{}, {}], 4, None, no_progress)
    assert sum(done) == 18 and min(done) >= 0


@pytest.mark.parametrize(
    ("count", "most", "lengths"),
    [
        *((1, 2, [1]), (63, 2, [63]), (64, 2, [32, 32]), (200, 2, [100, 100]), (201, 2, [67] * 3)),
        *((64, 16, [32, 32]), (200, 4, [50] * 4), (200, 16, [34] * 5 + [30])),
    ],
)
def test_parts_have_equal_lengths(count: int, most: int, lengths: list[int]) -> None:
    prompts = list(range(count))
    parts = parts_of_prompts(prompts, most)  # type: ignore[arg-type]
    assert [len(part) for part in parts] == lengths
    assert [each for part in parts for each in part] == prompts


def dead() -> None:
    os._exit(9)


def raising(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    "death",
    [dead, die_while_sending, *(raising(each) for each in (MemoryError(), RuntimeError(NO_MEMORY[0])))],
    ids=["killed", "killed while it sends", "MemoryError", "torch's allocator"],
)
def test_a_process_that_dies_or_lacks_memory_leaves_its_task_to_this_one(death: Callable[[], None]) -> None:
    """Later tasks have a process fewer: a system without memory would end the next one too."""
    here, said = os.getpid(), list[str]()

    def task() -> int:
        if os.getpid() != here:
            death()
        return 5

    processes, threads, others = ForkedTasks(3, said.append), torch.get_num_threads(), set(active_children())
    assert processes.run([task, task, task]) == [5, 5, 5]
    assert processes.count == 1 and len(said) == 1 and "2 of 3 processes" in said[0]
    assert torch.get_num_threads() == threads
    assert set(active_children()) <= others


def test_threads_do_not_depend_on_the_number_of_processes_that_are_left() -> None:
    """Nor on how many tasks each process takes: more threads add up in another order."""
    here = os.getpid()

    def threads_of(task: int, dies: bool = False) -> tuple[int, int]:
        if dies and os.getpid() != here:
            os._exit(9)
        return task, torch.get_num_threads()

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        tasks = [partial(threads_of, number) for number in range(3)]
        for count, threads in ((1, 2), (2, 1), (5, 1)):
            assert ForkedTasks(count).run(tasks) == [(number, threads) for number in range(3)]
        processes = ForkedTasks(2, lambda _: None)
        for _ in range(2):
            assert processes.run([partial(each, dies=True) for each in tasks]) == [(n, 1) for n in range(3)]
        assert processes.count == 1
        assert processes.run(tasks[:1]) == [(0, 2)], "a single task has no other to be compared with"
    finally:
        torch.set_num_threads(before)


def test_an_error_of_a_process_is_raised_here() -> None:
    """A bug with its traceback, an error for the user with its own text."""
    here = os.getpid()

    def task(error: Exception) -> None:
        if os.getpid() != here:
            raise error

    with pytest.raises(RuntimeError, match=r"(?s)Traceback.*KeyError: 'a bug'"):
        ForkedTasks(2).run([partial(task, KeyError("a bug"))] * 2)
    with pytest.raises(ModelError, match=r"^use another dtype$"):
        ForkedTasks(2).run([partial(task, ModelError("use another dtype"))] * 2)


def test_warnings_are_those_of_this_process(capfd: pytest.CaptureFixture[str]) -> None:
    """Each step has new processes, which would show the same warning again."""
    with pytest.warns(UserWarning) as shown:
        ForkedTasks(2).run([lambda: warnings.warn("odd", stacklevel=1)] * 2)
    assert len(shown) == 1
    assert capfd.readouterr().err == ""


def test_no_step_is_forked_next_to_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first backward pass starts autograd's threads for its devices, whatever the model's, and a forked process
    that runs one fails."""
    for fake in (None, FakeAccelerator("cuda")):
        use_accelerator(monkeypatch, fake)
        assert can_fork_steps(torch.device("cpu")) == (fake is None)
