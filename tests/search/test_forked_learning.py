"""Learning in several processes gives what one process gives."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from heretic.engine.learning.path import LearningSettings, PathLearner
from heretic.engine.learning.step import StepRunner
from heretic.engine.learning.targets import Targets
from heretic.engine.protocol import NO_MEMORY, no_progress
from heretic.search import forked_learning
from heretic.search.forked_learning import ForkedAnswers, ForkedStepRunner, in_processes, parts_of_prompts
from heretic.session.engine import open_engine
from tests.support.families import tiny
from tests.support.inline_actors import planted_session
from tests.support.learned import forward_of, layout_for, loaded_of, random_tensors, rows, scored

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
        path = after_two_steps(lambda runner, count=processes: ForkedStepRunner(runner, count))
        assert path.losses == alone.losses
        for name, tensor in alone.tensors.items():
            assert torch.equal(path.tensors[name], tensor)


def test_answers_do_not_depend_on_the_number_of_processes(
    planted_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forked_learning, "FEWEST_PROMPTS", 4)
    session = planted_session(planted_directory)
    engine, prompts = open_engine(session), session.prompts.bad.prompts[:9]
    done: list[int] = []
    alone, several = (ForkedAnswers(engine, count)(prompts, [{}, {}], 4, done.append) for count in (1, 2))
    assert alone == several
    assert [len(each) for each in alone] == [9, 9]
    assert alone == engine.generate(prompts, [{}, {}], 4, None, no_progress)
    assert done == [5, 4, 9]


@pytest.mark.parametrize(
    ("count", "lengths"), [(1, [1]), (63, [63]), (64, [32, 32]), (200, [100, 100]), (201, [67] * 3)]
)
def test_parts_have_equal_lengths(count: int, lengths: list[int]) -> None:
    prompts = list(range(count))
    parts = parts_of_prompts(prompts)  # type: ignore[arg-type]
    assert [len(part) for part in parts] == lengths
    assert [each for part in parts for each in part] == prompts


def test_a_process_that_dies_leaves_its_task_to_this_one() -> None:
    here = os.getpid()

    def task() -> int:
        if os.getpid() != here:
            os._exit(1)
        return 5

    threads = torch.get_num_threads()
    assert in_processes([task, task]) == [5, 5]
    assert torch.get_num_threads() == threads


def test_an_error_of_a_process_is_raised_here_with_its_words() -> None:
    """Running out of memory among them: the step is repeated with smaller groups."""
    here = os.getpid()

    def task() -> None:
        if os.getpid() != here:
            raise RuntimeError(NO_MEMORY[0])

    with pytest.raises(RuntimeError, match=NO_MEMORY[0]):
        in_processes([task, task])
