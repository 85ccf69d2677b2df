"""A simulated system of actors with its own clock: calls end at set times, and actors die when a test says
so."""

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from heretic.search.cluster.system import ActorFacts, ActorLost, Answer, Refused, Status

OURS = {"heretic": "1", "torch": "2", "transformers": "5"}


@dataclass(eq=False)
class SimulatedActor:
    number: int
    node: str
    dead: bool = False
    began: list[Any] = field(default_factory=list)
    opened: list[Any] = field(default_factory=list)
    free: float = 0.0
    cancelled: set[int] = field(default_factory=set)


@dataclass(eq=False)
class SimulatedCall:
    actor: SimulatedActor
    method: str
    arguments: tuple[Any, ...]
    ends: float


class SimulatedSystem:
    """Nodes by name, with the number of actors that each holds. `seconds` gives the duration of a task on an actor,
    `answer` its value, `refuses` why a node can't be used."""

    def __init__(
        self,
        nodes: Mapping[str, int],
        seconds: Callable[[SimulatedActor, Sequence[Any]], float] = lambda *_: 0.0,
        answer: Callable[[SimulatedActor, Sequence[Any]], Any] = lambda _, arguments: arguments[0],
        refuses: Mapping[str, str] | None = None,
        versions: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self.nodes = dict(nodes)
        self.actors: list[SimulatedActor] = []
        self.clock = 0.0
        self.performed: list[tuple[int, Any]] = []
        self._seconds, self._answer = seconds, answer
        self._refuses = refuses or {}
        self._versions = versions or {}
        self._numbers, self._order = itertools.count(), itertools.count()
        self._ending: list[tuple[float, int, SimulatedCall]] = []
        self._open: set[SimulatedCall] = set()

    def room(self) -> list[str]:
        taken = Counter(each.node for each in self.actors if not each.dead)
        return [node for node, count in self.nodes.items() for _ in range(max(0, count - taken[node]))]

    def name(self, node: str) -> str:
        return node

    def start(self, node: str) -> SimulatedActor:
        actor = SimulatedActor(next(self._numbers), node)
        self.actors.append(actor)
        return actor

    def call(self, actor: SimulatedActor, method: str, *arguments: Any) -> SimulatedCall:
        now = self.clock
        if method == "cancel":
            actor.cancelled.add(arguments[0])
            # It stops at once.
            actor.free = now
            for call in self._open:
                if call.actor is actor and call.method == "perform" and call.arguments[0] == arguments[0]:
                    self._push(call, now)
        duration = self._seconds(actor, arguments[3:]) if method == "perform" else 0.0
        call = SimulatedCall(actor, method, arguments, now + duration)
        self._open.add(call)
        self._push(call, call.ends)
        return call

    def now(self) -> float:
        return self.clock

    def wait(self, calls: Sequence[SimulatedCall], seconds: float) -> list[SimulatedCall]:
        """Advances the clock to the end of the next call."""
        until = self.clock + seconds
        for call in [each for each in self._open if each.actor.dead]:
            self._push(call, 0.0)
        found: list[SimulatedCall] = []
        while self._ending and self._ending[0][0] <= (self.clock if found else until):
            ends, _, call = heapq.heappop(self._ending)
            if call in self._open and call.method != "cancel":
                self.clock = max(self.clock, ends)
                self._open.discard(call)
                found.append(call)
        if not found:
            self.clock = until
        return found

    def result(self, call: SimulatedCall) -> Any:
        actor = call.actor
        if actor.dead:
            raise ActorLost("its process was killed")
        if call.method == "open":
            actor.opened.append(call.arguments[0])
            if actor.node in self._refuses:
                return Refused(self._refuses[actor.node])
            return ActorFacts(actor.node, "CPU", dict(self._versions.get(actor.node, OURS)), f"model {actor.number}")
        if call.method == "begin":
            actor.began.append(call.arguments[1])
            return call.arguments[0]
        if call.method == "status":
            return Status("busy", 0)
        number, _, _, *arguments = call.arguments
        if number in actor.cancelled:
            return Answer(None, cancelled=True)
        self.performed.append((actor.number, arguments[0]))
        value = self._answer(actor, arguments)
        if actor.dead:
            raise ActorLost("its process was killed")
        return value if isinstance(value, Answer) else Answer(value, rows=3)

    def end(self, actor: SimulatedActor) -> None:
        actor.dead = True
        self.actors = [each for each in self.actors if each is not actor]
        self._open = {each for each in self._open if each.actor is not actor}

    def share(self, value: Any) -> Any:
        return value

    def _push(self, call: SimulatedCall, ends: float) -> None:
        heapq.heappush(self._ending, (ends, next(self._order), call))
