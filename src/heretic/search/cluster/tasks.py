"""Tasks of a pool, its actors, and the outcomes of tasks."""

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MOST_LOSSES = 3
"""Actors that may die during one task, or while they load the model, before the task or the model is blamed."""
SLOW = 2.0
"""Multiple of the median duration after which an idle actor starts a task a second time."""
FEWEST_FOR_SLOW = 0.5
"""Seconds below which no task counts as slow."""


@dataclass(eq=False, slots=True)
class Task:
    """A call that any actor may answer. `losses` counts the actors that died during it; with `most_losses` it is lost,
    or divided by who submitted it."""

    method: str
    arguments: tuple[Any, ...]
    title: str
    most_losses: int = MOST_LOSSES
    losses: int = 0
    running: int = 0
    done: bool = False
    begun: float = 0.0
    number: int = field(default_factory=itertools.count().__next__)


@dataclass(eq=False, slots=True)
class Actor:
    """The pool's record of one actor."""

    number: int
    node: str
    host: str
    handle: Any
    doing: str = "starting"
    ready: bool = False
    holds: int = 0
    task: Task | None = None
    rows: int = 0
    finished: int = 0

    @property
    def name(self) -> str:
        return f"{self.number} on {self.host}"


@dataclass(frozen=True, slots=True)
class TaskOutcome:
    """A task's result, and the name of the actor that gave it; `lost` if it killed every actor that tried."""

    task: Task
    value: Any
    actor: str
    lost: str | None = None


def slow_task(actors: Sequence[Actor], durations: Sequence[float], now: float) -> Task | None:
    """The oldest task that takes much longer than usual on its only actor: an idle actor runs it a second time."""
    if not durations:
        return None
    limit = now - max(FEWEST_FOR_SLOW, SLOW * statistics.median(durations))
    running = (actor.task for actor in actors if actor.task is not None)
    slow = [task for task in running if task.running == 1 and task.begun < limit and not task.done]
    return min(slow, key=lambda task: task.begun, default=None)


def loss_of(actor: Actor, reason: str) -> str:
    """A line that reports an actor's end, and what becomes of its task."""
    line, task = f"Actor {actor.name} is gone ({reason}).", actor.task
    if task is None or task.done:
        return line
    if task.losses < task.most_losses or task.running:
        return f"{line} Its task ({task.title}) goes to another."
    then = "divided" if task.most_losses < MOST_LOSSES else "lost"
    return f"{line} {task.losses} actors ended during its task ({task.title}), which is {then}."


def unusable(actor: Actor, reason: str) -> str:
    return (
        f"Expected actors that load the model and measure with it, but {MOST_LOSSES} in a row failed (the last, on "
        f"{actor.host}: {reason}). They may need more memory: lower max_actors, or set quantization."
    )


def every_actor_died(outcome: TaskOutcome) -> str:
    return (
        f"Expected an answer to {outcome.task.title!r}, but {outcome.task.losses} actors ended during it (the last: "
        f"{outcome.lost}). Give actors more memory, or lower batch_size."
    )


def nobody_left(banned: Mapping[str, str], never_began: bool, reason: str) -> str:
    """Why there is no actor: none of the nodes could be used, none has room, or the last one is gone."""
    if banned and never_began:
        return next(iter(banned.values()))
    if never_began:
        return (
            "Expected a cluster with room for one model, found none. Lower gpus_per_model or threads_per_model, or add "
            "nodes; ray status shows what there is."
        )
    return (
        f"The last actor is gone ({reason}), and the cluster has no room for another. All finished trials are kept: "
        "run the same command again to continue."
    )
