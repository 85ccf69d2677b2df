"""A pool of actors: runs as many as the nodes have room for, and retries the tasks of actors that die."""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

from ...engine.protocol import Progress, no_progress
from ...errors import ClusterError, ModelError
from ...events import Reporter, WorkerState
from .system import ActorFacts, ActorLost, ActorSystem, Answer, Refused, Status
from .tasks import MOST_LOSSES, Actor, Task, TaskOutcome, every_actor_died, loss_of, nobody_left, slow_task, unusable

POLL = 1.0
"""Seconds between polls of the nodes and of the actors' status."""


class ActorPool:
    """Runs tasks on actors. The task of an actor that dies goes to another; the actor is replaced if there is room.

    `check` returns why an actor with these facts can't be used (None: it can). The pool waits `patience` seconds for
    nodes once no actor is left.
    """

    def __init__(
        self,
        system: ActorSystem,
        reporter: Reporter,
        check: Callable[[ActorFacts], str | None] = lambda _: None,
        most: int = 0,
        patience: float = 30.0,
    ) -> None:
        self._system = system
        self._reporter = reporter
        self._check = check
        self._most = most
        self._patience = patience
        self._actors: list[Actor] = []
        self._calls: dict[Any, tuple[Actor, str]] = {}
        self._queue: deque[Task] = deque()
        self._outcomes: list[TaskOutcome] = []
        self._known: Any = None
        self._state: Any = None
        self._edition = self._count = 0
        self._banned: dict[str, str] = {}
        self._durations: deque[float] = deque(maxlen=64)
        self._failures: Counter[str] = Counter()
        self._said: set[str] = set()
        self._looked = self._alive = self._system.now()
        self._reason = ""
        self.facts: ActorFacts | None = None

    def open(self, profile_of: Callable[[ActorFacts], Any], known: Any = None) -> ActorFacts:
        """Starts actors and waits until one has loaded the model; its profile, or a `known` one, is sent to the others.

        Raises:
            ClusterError: there is no room for an actor.
            ModelError: the model can't be loaded.
        """
        self._known, self._profile_of = known, profile_of
        self._alive = self._system.now()
        self._look(no_progress, at_once=True)
        while self.facts is None:
            self._turn(no_progress)
        return self.facts

    def begin(self, state: Any) -> None:
        """Sends the state of a study to every actor before its next task."""
        self._state, self._edition = self._system.share(state), self._edition + 1
        for actor in self._actors:
            if actor.ready and actor.task is None and not self._is_called(actor):
                self._advance(actor)

    def share(self, value: Any) -> Any:
        """The value as an argument that is sent to each node once."""
        return self._system.share(value)

    @property
    def size(self) -> int:
        """Actors that are alive or starting."""
        return len(self._actors)

    @property
    def workers(self) -> list[WorkerState]:
        """The status of each actor."""
        return [WorkerState(each.name, each.doing, each.finished) for each in list(self._actors)]

    def submit(self, task: Task) -> None:
        self._queue.append(task)
        self._hand_out()

    def outcomes(self, progress: Progress) -> list[TaskOutcome]:
        """Waits for at least one of the tasks."""
        while not self._outcomes:
            self._turn(progress)
        found, self._outcomes = self._outcomes, []
        return found

    def map(self, tasks: Sequence[Task], progress: Progress) -> list[Any]:
        """The results of all tasks, in their order; outcomes of others wait for `outcomes`.

        Raises:
            ClusterError: a task killed every actor that tried it.
        """
        for task in tasks:
            self.submit(task)
        found: dict[Task, Any] = {}
        wanted, others = set(tasks), list[TaskOutcome]()
        while len(found) < len(tasks):
            for outcome in self.outcomes(progress):
                if outcome.task not in wanted:
                    others.append(outcome)
                    continue
                if outcome.lost is not None:
                    raise ClusterError(every_actor_died(outcome))
                found[outcome.task] = outcome.value
        self._outcomes = others + self._outcomes
        return [found[task] for task in tasks]

    def drop_tasks(self) -> None:
        """Drops all tasks: those of a search that was stopped."""
        self._queue, self._outcomes = deque(), []
        for actor in self._actors:
            if actor.task is not None and not actor.task.done:
                actor.task.done = True
                self._system.call(actor.handle, "cancel", actor.task.number)

    def close(self) -> None:
        """Ends all actors, and drops unfinished tasks."""
        for actor in self._actors:
            self._system.end(actor.handle)
        self._actors, self._calls, self._queue = [], {}, deque()

    def _turn(self, progress: Progress) -> None:
        """Waits for one call, or until the next poll."""
        self._hand_out()
        for call in self._system.wait(list(self._calls), POLL):
            if call not in self._calls:
                # Another call has already shown that its actor is gone.
                continue
            actor, kind = self._calls.pop(call)
            try:
                self._receive(actor, kind, self._system.result(call), progress)
            except ActorLost as error:
                self._lose(actor, str(error))
        self._look(progress)

    def _receive(self, actor: Actor, kind: str, result: Any, progress: Progress) -> None:
        if isinstance(result, Refused):
            self._refuse(actor, result.reason)
        elif isinstance(result, Status):
            if actor.task is not None or not actor.ready:
                actor.doing = result.doing
            if actor.task is not None:
                progress(max(0, result.rows - actor.rows))
                actor.rows = max(actor.rows, result.rows)
        elif isinstance(result, ActorFacts):
            self._admit(actor, result)
        elif isinstance(result, Answer):
            self._settle(actor, result, progress)
        elif kind == "begin":
            actor.holds = result
            self._advance(actor)

    def _admit(self, actor: Actor, facts: ActorFacts) -> None:
        reason = self._check(facts)
        if reason is not None:
            self._refuse(actor, reason)
            return
        actor.ready, actor.doing, actor.host = True, "idle", facts.host
        if self.facts is None:
            self.facts = facts
            self._known = self._profile_of(facts)
            for other in self._actors:
                if not other.ready and not self._is_called(other):
                    self._call(other, "open", self._known)
        self._advance(actor)

    def _advance(self, actor: Actor) -> None:
        """Sends a ready actor the study's state, if it lacks it, or a task."""
        if actor.holds != self._edition:
            self._call(actor, "begin", self._edition, self._state)
        else:
            self._hand_out()

    def _settle(self, actor: Actor, answer: Answer, progress: Progress) -> None:
        for note in answer.notes:
            # Once, though every actor may meet the same.
            if note not in self._said:
                self._said.add(note)
                self._reporter.say(f"{note} (Actor {actor.name})")
        if answer.lacked is not None:
            self._lose(actor, answer.lacked, failed=True)
            return
        task, actor.task, actor.doing = actor.task, None, "idle"
        assert task is not None
        task.running -= 1
        self._failures.pop(actor.node, None)
        if not task.done and not answer.cancelled:
            progress(max(0, answer.rows - actor.rows))
            actor.finished += 1
            self._durations.append(self._system.now() - task.begun)
            self._finish(TaskOutcome(task, answer.value, actor.name))
        self._advance(actor)

    def _finish(self, outcome: TaskOutcome) -> None:
        outcome.task.done = True
        self._outcomes.append(outcome)
        for other in self._actors:
            if other.task is outcome.task:
                # Its result would be the same, so it is not needed.
                self._system.call(other.handle, "cancel", outcome.task.number)

    def _hand_out(self) -> None:
        now = self._system.now()
        for actor in self._actors:
            if not actor.ready or actor.task is not None or actor.holds != self._edition:
                continue
            task = self._queue.popleft() if self._queue else slow_task(self._actors, self._durations, now)
            if task is None:
                return
            task.begun = task.begun if task.running else now
            task.running += 1
            actor.task, actor.doing, actor.rows = task, task.title, 0
            self._call(actor, "perform", task.number, task.method, task.title, *task.arguments)

    def _is_called(self, actor: Actor) -> bool:
        return any(other is actor and kind != "status" for other, kind in self._calls.values())

    def _call(self, actor: Actor, method: str, *arguments: Any) -> None:
        self._calls[self._system.call(actor.handle, method, *arguments)] = actor, method

    def _look(self, progress: Progress, at_once: bool = False) -> None:
        """Polls at intervals: starts actors where there is room, and asks the busy ones for their progress."""
        now = self._system.now()
        # The interval grows with the number of actors (ten seconds for a thousand), so that polling stays cheap.
        if now - self._looked < max(POLL, len(self._actors) / 100) and not at_once:
            return
        self._looked = now
        asked = {actor.number for actor, kind in self._calls.values() if kind == "status"}
        for actor in self._actors:
            if actor.number not in asked and (actor.task is not None or not actor.ready):
                self._call(actor, "status")
        self._fill()
        if self._actors:
            self._alive = now
        elif now - self._alive > self._patience:
            raise ClusterError(nobody_left(self._banned, self.facts is None, self._reason))

    def _fill(self) -> None:
        places = [node for node in self._system.room() if node not in self._banned]
        if self._most:
            places = places[: max(0, self._most - len(self._actors))]
        for node in places:
            self._count += 1
            actor = Actor(self._count, node, self._system.name(node), self._system.start(node))
            self._actors.append(actor)
            # Only the first actor measures a profile; the others use it.
            if self._known is not None or len(self._actors) == 1:
                self._call(actor, "open", self._known)

    def _lose(self, actor: Actor, reason: str, failed: bool = False) -> None:
        """Removes an actor that died, or that `failed` for lack of memory; its task goes to the head of the queue."""
        if actor not in self._actors:
            return
        self._reason = reason
        self._remove(actor)
        task = actor.task
        if task is not None:
            task.running -= 1
            # Lack of memory is the node's: every task needs as much for its smallest part.
            task.losses += not failed
        self._reporter.warn(loss_of(actor, reason))
        if failed or not actor.ready:
            self._failures[actor.node] += 1
            if self._failures[actor.node] >= MOST_LOSSES:
                self._refuse_node(actor, unusable(actor, reason))
        if task is None or task.done or task.running:
            return
        if task.losses >= task.most_losses:
            self._finish(TaskOutcome(task, None, actor.name, lost=reason))
        else:
            self._queue.appendleft(task)

    def _refuse(self, actor: Actor, reason: str) -> None:
        """Removes an actor that can't be used, and bans its node."""
        self._remove(actor)
        self._refuse_node(actor, reason)

    def _refuse_node(self, actor: Actor, reason: str) -> None:
        self._banned[actor.node] = reason
        if not self._actors and self.facts is None and not set(self._system.room()) - set(self._banned):
            raise ModelError(reason)
        self._reporter.warn(f"{actor.host} is not used: {reason}")

    def _remove(self, actor: Actor) -> None:
        self._actors.remove(actor)
        self._calls = {call: each for call, each in self._calls.items() if each[0] is not actor}
        self._system.end(actor.handle)
        if self._known is None and self._actors and not any(map(self._is_called, self._actors)):
            self._call(self._actors[0], "open", None)
