"""What a pool of actors needs of the system that runs them. Ray is one; tests and benchmarks have simulated ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class ActorLost(Exception):
    """An actor ended before it answered: its process or its node died. The text says what is known."""


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
        """Begins a call. Calls of one actor run one by one, except for `status` and `cancel`, which don't wait."""
        ...

    def now(self) -> float:
        """Seconds on the system's clock."""
        ...

    def wait(self, calls: Sequence[Any], seconds: float) -> list[Any]:
        """The calls that have ended; waits for the first, but no longer than that."""
        ...

    def result(self, call: Any) -> Any:
        """The result of a call that has ended.

        Raises:
            ActorLost: its actor did not answer.
        """
        ...

    def end(self, actor: Any) -> None:
        """Ends an actor, whatever it does."""
        ...

    def share(self, value: Any) -> Any:
        """The value as an argument that is sent to each node once."""
        ...


@dataclass(frozen=True, slots=True)
class ActorFacts:
    """What an actor says of itself once its model is loaded; `model` is for the engine alone.

    `versions` are those of the packages that figures depend on.
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
    """The result of a task; None if it was cancelled. `rows` is its whole progress, `notes` what it has to say."""

    value: Any
    rows: int = 0
    notes: tuple[str, ...] = ()
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Status:
    """What an actor is doing, and the rows of its task that are done."""

    doing: str
    rows: int
