"""Steps of learning on actors: each computes the gradient of some groups of rows, and the driver adds them up.

The gradient of a step is a sum over groups, added in their order whichever actor computed them; each actor prepares the
same rows in the same batches. So the path does not depend on the number of actors, to the last bit in float32.
"""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ...ablation.edit import ModelEdit
from ...engine.learning.forward import AnswerForward
from ...engine.learning.rows import Row
from ...engine.learning.runners import answer_forward
from ...engine.learning.step import (
    MOST_POSITIONS,
    Gradients,
    GroupLoss,
    LossWeights,
    Part,
    StepRunner,
    group_gradients,
)
from ...engine.local import LocalEngine
from ...engine.protocol import Progress
from .engine import RemoteEngine


@dataclass(frozen=True, slots=True)
class Preparation:
    """The answers and pieces that a run of learning has prepared so far, in the batches in which it did."""

    run: str
    first_layer: int
    batches: tuple[tuple[tuple[Row, ...], tuple[Row, ...]], ...]


class RemoteForward(AnswerForward):
    """Stands for the actors' forwards: keeps what they have to prepare, and has no model."""

    def __init__(self, engine: RemoteEngine, first_layer: int) -> None:
        self._engine = engine
        self._known: tuple[set[Row], set[Row]] = set(), set()
        self._preparation = Preparation(uuid.uuid4().hex, first_layer, ())
        self._shared: Any = None

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def prepare(self, answers: Sequence[Row], pieces: Sequence[Row] = ()) -> None:
        known_answers, known_pieces = self._known
        new = (
            tuple(row for row in answers if row not in known_answers),
            tuple(row for row in pieces if row not in known_pieces),
        )
        if any(new):
            known_answers.update(new[0])
            known_pieces.update(new[1])
            self._preparation = replace(self._preparation, batches=(*self._preparation.batches, new))
            self._shared = None

    @property
    def shared(self) -> Any:
        """The preparation, sent to each node once."""
        if self._shared is None:
            self._shared = self._engine.pool.share(self._preparation)
        return self._shared


class RemoteStepRunner(StepRunner):
    """Takes steps whose groups of rows run on actors."""

    forward: RemoteForward

    def __init__(self, engine: RemoteEngine, first_layer: int) -> None:
        # Groups have the size of a CPU's everywhere: with one group, all actors but one would be idle.
        super().__init__(RemoteForward(engine, first_layer), MOST_POSITIONS)
        self._engine = engine

    def gradients(
        self, edits: Sequence[ModelEdit], weights: Sequence[LossWeights], groups: Sequence[Sequence[Part]]
    ) -> Iterator[tuple[GroupLoss, Gradients]]:
        sent = [
            {name: replace(each, left=each.left.detach(), right=each.right.detach()) for name, each in edit.items()}
            for edit in edits
        ]
        pool, shared = self._engine.pool, self._engine.pool.share(sent)
        tasks = [
            self._engine.task("a step of learning", gradients_on_actor, self.forward.shared, shared, weights, group)
            for group in groups
        ]
        return iter(pool.map(tasks, _ignored))


def gradients_on_actor(
    engine: LocalEngine,
    preparation: Preparation,
    edits: Sequence[ModelEdit],
    weights: Sequence[LossWeights],
    group: Sequence[Part],
    *,
    progress: Progress,
) -> tuple[GroupLoss, Gradients]:
    """The loss of a group of rows, and its gradients with respect to the edits."""
    with torch.inference_mode(False), torch.enable_grad():
        # Tensors that arrive in inference mode have no gradients.
        copies = [_copied(edit) for edit in edits]
        loss, gradients = group_gradients(_prepared(engine, preparation), copies, weights, group)
    # The search may have no device like this one.
    return loss, [{name: (_sent(left), _sent(right)) for name, (left, right) in each.items()} for each in gradients]


_FORWARDS: "WeakKeyDictionary[LocalEngine, tuple[str, AnswerForward, list[int]]]" = WeakKeyDictionary()
"""By engine: the run of learning, its forward, and how many batches are prepared."""


def _prepared(engine: LocalEngine, preparation: Preparation) -> AnswerForward:
    if engine not in _FORWARDS or _FORWARDS[engine][0] != preparation.run:
        _FORWARDS[engine] = preparation.run, answer_forward(engine, preparation.first_layer), [0]
    _, forward, done = _FORWARDS[engine]
    for answers, pieces in preparation.batches[done[0] :]:
        forward.prepare(answers, pieces)
        done[0] += 1
    return forward


def _copied(edit: ModelEdit) -> ModelEdit:
    return {name: replace(each, left=each.left.clone(), right=each.right.clone()) for name, each in edit.items()}


def _sent(gradient: Tensor | None) -> Tensor | None:
    return None if gradient is None else gradient.cpu()


def _ignored(_: int) -> None:
    """Steps report their own progress."""
