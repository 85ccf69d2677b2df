"""A reporter that collects an actor's messages for the driver, which shows them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from ...engine.protocol import Progress
from ...events import SearchState, SearchView
from ...study.schema import BaselineRecord, TrialRecord


class Notes:
    """Keeps messages and warnings until they are taken; `step` receives the title of each step that begins."""

    def __init__(self, step: Callable[[str], None]) -> None:
        self._begun = step
        self._lines: list[str] = []

    def take(self) -> tuple[str, ...]:
        """The messages since the last call."""
        lines, self._lines = tuple(self._lines), []
        return lines

    def say(self, text: str) -> None:
        self._lines.append(text)

    def warn(self, text: str) -> None:
        self._lines.append(f"Warning: {text}")

    def confirm(self, text: str, details: Sequence[str], question: str) -> bool:
        return False

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Progress]:
        done = 0

        def progress(count: int) -> None:
            nonlocal done
            done += count
            self._begun(f"{title}: {done} of {total}" if total else title)

        self._begun(title)
        yield progress

    def search(self, state: SearchState, rows_a_trial: int) -> AbstractContextManager[SearchView]:
        raise NotImplementedError("an actor searches nothing")

    def front(self, front: Sequence[TrialRecord], best: TrialRecord | None, baseline: BaselineRecord) -> None:
        raise NotImplementedError("an actor has no front")

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        raise NotImplementedError("an actor has no tables")
