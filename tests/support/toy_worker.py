"""A worker without a model, for actors that start in no time."""

import os
import time
from dataclasses import dataclass, field
from typing import Any

from heretic.errors import NoGradientError
from heretic.search.cluster.system import ActorFacts, Answer, Status


@dataclass
class ToyWorker:
    """Answers a task with its process and its argument, after that many seconds."""

    versions: dict[str, str] = field(default_factory=dict)
    state: Any = None

    def open(self, known: Any) -> ActorFacts:
        return ActorFacts("here", "CPU", self.versions, known)

    def begin(self, state: Any) -> None:
        self.state = state

    def perform(self, task: int, method: str, title: str, argument: Any, seconds: float = 0.0) -> Answer:
        if argument == "bug":
            raise KeyError("a bug")
        if argument == "no gradient":
            raise NoGradientError("it is zero")
        wait_to_be_killed(seconds)
        return Answer((os.getpid(), self.state, argument), rows=1)

    def status(self) -> Status:
        return Status("sleeping", 0)

    def cancel(self, task: int) -> None:
        """It is not worth the while."""


def wait_to_be_killed(seconds: float) -> None:
    time.sleep(seconds)
