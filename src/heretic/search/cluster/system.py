"""Protocol of the system that runs a pool's actors: Ray, or a simulation in tests and benchmarks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class ActorLost(Exception):
    """An actor ended before it answered: its process or its node died. The text gives the known reason."""


class ActorSystem(Protocol):
    """Starts actors on nodes and carries calls. `Any` are the system's own handles of actors, calls and values."""

    def room(self) -> list[str]:
        """A node for each further actor that the nodes have room for now."""
        ...

    def name(self, node: str) -> str:
        """The node's name, to be shown."""
        ...

    def start(self, node: str) -> Any:
        """A new actor on the node."""
        ...

    def call(self, actor: Any, method: str, *arguments: Any) -> Any:
        """Begins a call. Calls of one actor run one by one, except `status` and `cancel`, which run at once."""
        ...

    def now(self) -> float:
        """Seconds on the system's clock."""
        ...

    def wait(self, calls: Sequence[Any], seconds: float) -> list[Any]:
        """The calls that have ended; waits for the first one, or until the timeout."""
        ...

    def result(self, call: Any) -> Any:
        """The result of a call that has ended.

        Raises:
            ActorLost: its actor did not answer.
        """
        ...

    def end(self, actor: Any) -> None:
        """Ends an actor, even during a call."""
        ...

    def share(self, value: Any) -> Any:
        """The value as an argument that is sent to each node once."""
        ...


@dataclass(frozen=True, slots=True)
class ActorFacts:
    """An actor's description once its model is loaded; only the engine reads `model`.

    `versions` are those of the packages that metrics depend on.
    """

    host: str
    device: str
    versions: dict[str, str]
    model: Any = None


@dataclass(frozen=True, slots=True)
class Refused:
    """Why an actor can't be used: a paragraph for the user."""

    reason: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a task; None if it was cancelled. `rows` is its total progress, `notes` its messages. `lacked` says
    that not even one row fits this actor's memory."""

    value: Any
    rows: int = 0
    notes: tuple[str, ...] = ()
    cancelled: bool = False
    lacked: str | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """An actor's current step, and the number of finished rows of its task."""

    doing: str
    rows: int
