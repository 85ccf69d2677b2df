"""A measurer without a model."""

import os
from collections.abc import Sequence
from pathlib import Path

from heretic.engine.protocol import Progress
from heretic.evaluation.evaluator import Evaluation
from heretic.evaluation.scorers.base import Measurement
from heretic.search.measurer import EvaluationRequest


class FakeMeasurer:
    """Reports its process as the number of prompts; some trials take longer, and one process may die once."""

    ahead = 1

    def __init__(self, dies: Path | None = None, fails: bool = False) -> None:
        self._dies = dies
        self._fails = fails

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
                os._exit(9)
            except FileExistsError:
                pass
        if self._fails:
            raise KeyError("a bug")
        return [(job, Evaluation({"number": Measurement(job.number), "process": Measurement(os.getpid())}))]
