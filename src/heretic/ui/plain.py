"""Plain lines for logs, pipes and NO_COLOR: nothing moves, and each line is complete."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from ..events import Progress, SearchState, SearchView
from ..printable import printable
from ..report.text import baseline_text, duration, front_columns, front_rows, learning_text, metrics_text
from ..study.schema import BaselineRecord, TrialRecord
from .questions import confirmed

SECONDS_BETWEEN_LINES = 10.0


class PlainReporter:
    """Writes lines to a stream."""

    def __init__(self, stream: TextIO, between: float = SECONDS_BETWEEN_LINES, asks: bool = False) -> None:
        self._stream = stream
        self._asks = asks
        self._between = between

    def say(self, text: str) -> None:
        print(printable(text), file=self._stream, flush=True)

    def warn(self, text: str) -> None:
        self.say(f"Warning: {text}")

    def confirm(self, text: str, details: Sequence[str], question: str) -> bool:
        return confirmed(self, self._asks, text, details, question)

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Progress]:
        started = time.monotonic()
        self.say(f"{title} ...")
        yield _Counter(self, title, total, self._between)
        done = f"{total} in " if total is not None else ""
        self.say(f"{title}: {done}{duration(time.monotonic() - started)}")

    @contextmanager
    def search(self, state: SearchState, rows_a_trial: int) -> Iterator[SearchView]:
        self.say(f"Search: {state.finished} of {state.wanted} trials done")
        yield _PlainSearch(self, self._between)

    def front(self, front: Sequence[TrialRecord], best: TrialRecord | None, baseline: BaselineRecord) -> None:
        title = f"Pareto front ({baseline_text(baseline)}; * marks the knee)"
        self.table(title, front_columns(baseline), front_rows(front, best, baseline))

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self.say(title)
        lines = [columns, *rows] if any(columns) else rows
        if not lines:
            return
        widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
        for line in lines:
            cells = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            self.say(f"  {cells}".rstrip())


class _Counter:
    """Reports the progress of a step at intervals."""

    def __init__(self, reporter: PlainReporter, title: str, total: int | None, between: float) -> None:
        self._reporter, self._title, self._total, self._between = reporter, title, total, between
        self._done = 0
        self._started = self._last = time.monotonic()

    def __call__(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if now - self._last < self._between or self._total is None or not 0 < self._done < self._total:
            return
        self._last = now
        left = (now - self._started) * (self._total - self._done) / self._done
        self._reporter.say(f"{self._title}: {self._done} of {self._total}, {duration(left)} left")


class _PlainSearch:
    def __init__(self, reporter: PlainReporter, between: float) -> None:
        self._reporter, self._between = reporter, between
        self._last = time.monotonic()

    def rows(self, count: int) -> None:
        """Prints nothing: a trial has one line, at its end."""

    def learning(self, point: int, step: int, steps: int, left: float) -> None:
        now = time.monotonic()
        if now - self._last >= self._between and step < steps:
            self._last = now
            text = learning_text(point, step, steps, left)
            self._reporter.say(text[0].upper() + text[1:])

    def complete(self, trial: TrialRecord, state: SearchState) -> None:
        on_front = " (on the front)" if any(each.number == trial.number for each in state.front) else ""
        measured = metrics_text(trial, state.baseline) + on_front
        self._reporter.say(f"Trial {trial.number}: {measured}; {_standing(state)}")

    def failed(self, number: int, reason: str, state: SearchState) -> None:
        self._reporter.say(f"Trial {number} failed: {reason}; {_standing(state)}")


def _standing(state: SearchState) -> str:
    left = "" if state.remaining is None else f", {duration(state.remaining)} left"
    return f"{state.finished} of {state.wanted} done{left}"
