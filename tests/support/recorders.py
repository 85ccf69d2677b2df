"""A reporter that keeps its messages."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from heretic.engine.protocol import Progress, no_progress


@dataclass
class Recorder:
    """Keeps messages and warnings; ignores steps and tables."""

    lines: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.lines.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def confirm(self, text: str, details: Sequence[str], question: str) -> bool:
        return False

    def step(self, title: str, total: int | None = None) -> AbstractContextManager[Progress]:
        return nullcontext(no_progress)

    def search(self, state: Any, rows_a_trial: int) -> AbstractContextManager[Any]:
        return nullcontext()

    def front(self, *_: Any) -> None:
        pass

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        pass
