"""Points of several paths, as they are finished."""

from collections.abc import Callable, Iterator, Sequence

import torch

from ...ablation.edit import ModelEdit
from .forward import AnswerForward
from .path import LearnedPoint, PathLearner
from .step import StepRunner
from .targets import Targets

Refresh = Callable[[Sequence[int], Sequence[ModelEdit]], Sequence[Targets]]
"""Returns new targets for each path, from the numbers of the paths that have finished a point and the edits after its
last step (not their mean): what the edited model answers, and what it still declines."""


def learn_paths(
    runner: StepRunner, paths: Sequence[PathLearner], refresh: Refresh | None = None
) -> Iterator[tuple[int, LearnedPoint]]:
    """Points of several paths as they are finished, with the number of their path.

    Paths share forwards: on a GPU, where kernel launches dominate a step, several cost little more than one. `refresh`
    gives the paths new targets after each of their points.
    """
    # In the order of an uninterrupted path: the composition of a batch affects the last bits.
    for number in range(max(len(path.parts) for path in paths)):
        for path in paths:
            for part in path.parts[number : number + 1]:
                runner.forward.prepare(part.answers, part.pieces)
    while running := [number for number, path in enumerate(paths) if not path.done]:
        runner.take([paths[number] for number in running])
        finished = {number: paths[number].finish() for number in running if paths[number].at_point}
        going_on = [number for number in finished if not paths[number].done]
        if refresh is not None and going_on:
            add_targets(runner.forward, paths, going_on, refresh)
        yield from finished.items()


@torch.no_grad()
def add_targets(forward: AnswerForward, paths: Sequence[PathLearner], numbers: Sequence[int], refresh: Refresh) -> None:
    """Adds to some of the paths the targets that `refresh` returns for their edits."""
    found = refresh(numbers, [paths[number].edit() for number in numbers])
    for number, targets in zip(numbers, found, strict=True):
        paths[number].add(targets)
        forward.prepare(targets.answers, targets.pieces)
