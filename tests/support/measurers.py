"""A measurer without a model."""

import os
import struct
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from heretic.engine.protocol import Progress
from heretic.evaluation.evaluator import Evaluation
from heretic.evaluation.scorers.base import Measurement
from heretic.search.measurer import EvaluationRequest


def die_while_sending() -> None:
    """This process will die in the middle of its next message."""

    def half(connection: Connection, content: Any) -> None:
        os.write(connection.fileno(), struct.pack("!i", len(content)) + bytes(content)[: len(content) // 2])
        os._exit(9)

    Connection._send_bytes = half  # type: ignore[attr-defined]


class FakeMeasurer:
    """Reports its process as the number of prompts; some trials take longer, and one process may die once."""

    ahead = 1

    def __init__(
        self, dies: Path | None = None, fails: Exception | None = None, death: Callable[[], None] = lambda: os._exit(9)
    ) -> None:
        self._dies = dies
        self._fails = fails
        self._death = death

    def measure(
        self, jobs: Sequence[EvaluationRequest], progress: Progress
    ) -> list[tuple[EvaluationRequest, Evaluation]]:
        [job] = jobs
        progress(3)
        for _ in range(100_000 * (job.number % 3)):
            pass
        if self._dies is not None and job.number == 2:
            try:
                self._dies.touch(exist_ok=False)
                self._death()
            except FileExistsError:
                pass
        if self._fails is not None:
            raise self._fails
        return [(job, Evaluation({"number": Measurement(job.number), "process": Measurement(os.getpid())}))]
