"""The view on a terminal: bars that move, and the search as a table that keeps its place."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from ..study.records import BaselineRecord, TrialRecord
from .events import Progress, SearchState, SearchView
from .plot import front_plot
from .questions import yes_no
from .text import FRONT_COLUMNS, duration, front_rows, kl, refusals

ROWS_OF_FRONT = 8
LAST_TRIALS = 4
WIDEST_PLOT = 100


class LiveReporter:
    """Draws on a terminal with rich."""

    def __init__(self, console: Console, asks: bool = False) -> None:
        self._console = console
        self._asks = asks

    def say(self, text: str) -> None:
        self._console.print(Text(text))

    def warn(self, text: str) -> None:
        self._console.print(Text("Warning: ", style="yellow") + Text(text))

    def confirm(self, text: str, details: Sequence[str], question: str) -> bool:
        if not self._asks:
            return False
        self.warn(text)
        for line in details:
            self.say(f"  {line}")
        return yes_no(question)

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Progress]:
        started = time.monotonic()
        # Names may hold brackets and colons, which are markup and emoji to rich where a text is not `Text`.
        columns = [SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(bar_width=24)]
        counted = [MofNCompleteColumn(), TimeRemainingColumn()] if total is not None else [TimeElapsedColumn()]
        with Bars(*columns, *counted, console=self._console, transient=True) as bars:
            task = bars.add_task(title, total=total)
            yield lambda count: bars.advance(task, count)
        done = f"{total} in " if total is not None else ""
        self.say(f"{title}: {done}{duration(time.monotonic() - started)}")

    @contextmanager
    def search(self, state: SearchState, rows_a_trial: int) -> Iterator[SearchView]:
        view = _LiveSearch(state, rows_a_trial)
        with Live(view, console=self._console, refresh_per_second=4, transient=True) as live:
            view.attach(live)
            yield view

    def front(self, front: Sequence[TrialRecord], best: TrialRecord | None, baseline: BaselineRecord) -> None:
        self._console.print(_front_table(front, best, baseline))

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        table = Table(title=Text(title), title_justify="left")
        for column in columns:
            table.add_column(Text(column))
        for row in rows:
            table.add_row(*map(Text, row))
        self._console.print(table)


class _LiveSearch:
    """The running search: bars above, the front below, the last trials last."""

    def __init__(self, state: SearchState, rows_a_trial: int) -> None:
        self._state = state
        self._last: list[str] = []
        self._bars = Bars(TextColumn("{task.description:>7}"), BarColumn(bar_width=30), MofNCompleteColumn())
        self._trials = self._bars.add_task("trials", total=state.wanted, completed=state.finished)
        self._rows = self._bars.add_task("prompts", total=rows_a_trial)
        self._rows_a_trial, self._done = rows_a_trial, 0
        self._live: Live | None = None

    def attach(self, live: Live) -> None:
        self._live = live

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """As much as the terminal has room for, whatever its size is now."""
        state = self._state
        width, room = options.max_width, _Room.of(options.height or console.height)
        left = "measuring the first trial" if state.remaining is None else f"{duration(state.remaining)} left"
        base = f"the model itself: {state.baseline.refusals}/{state.baseline.prompts} refusals"
        yield self._bars
        yield Text(f"{duration(state.elapsed)} gone, {left} · {base} · Ctrl+C stops and keeps all", style="dim")
        if state.front:
            if room.plot:
                size = min(width, WIDEST_PLOT), room.plot
                yield front_plot(state.trials, state.front, state.best, state.baseline, *size)
            yield _front_table(_around(state.best, state.front, room.front), state.best, state.baseline)
        for line in self._last[-room.last :]:
            yield Text(line, style="dim")

    def rows(self, count: int) -> None:
        """Prompts since the last trial ended; several candidates at once may run more than one has."""
        self._done = min(self._done + count, self._rows_a_trial)
        self._bars.update(self._rows, completed=self._done)

    def complete(self, trial: TrialRecord, state: SearchState) -> None:
        figures = f"refusals {refusals(trial, state.baseline)}, KL {kl(trial.kl_divergence)}"
        self._next(f"trial {trial.number}: {figures}", state)

    def failed(self, number: int, reason: str, state: SearchState) -> None:
        self._next(f"trial {number} failed: {reason}", state)

    def _next(self, line: str, state: SearchState) -> None:
        self._state = state
        self._last = [*self._last, line][-LAST_TRIALS:]
        self._bars.update(self._trials, completed=state.finished)
        self._done = 0
        self._bars.reset(self._rows)
        if self._live is not None:
            self._live.refresh()


@dataclass(frozen=True, slots=True)
class _Room:
    """Rows for the plot (0: none), for the front's table, and for the last trials."""

    plot: int
    front: int
    last: int

    @classmethod
    def of(cls, height: int) -> "_Room":
        """Bars, heading, borders and the plot's axis take what is left out here."""
        if height < 22:
            return cls(0, max(1, min(ROWS_OF_FRONT, height - 11)), 1)
        if height < 36:
            free = height - 13
            plot = min(9, free // 2)
            return cls(plot, max(3, min(ROWS_OF_FRONT, free - plot - 2)), 2)
        return cls(min(12, height - 27), ROWS_OF_FRONT, LAST_TRIALS)


def _around(best: TrialRecord | None, front: Sequence[TrialRecord], rows: int) -> Sequence[TrialRecord]:
    """`rows` of the front at most, `best` in the middle where it can be."""
    place = next((i for i, trial in enumerate(front) if best is not None and trial.number == best.number), 0)
    start = max(0, min(place - rows // 2, len(front) - rows))
    return front[start : start + rows]


def _front_table(front: Sequence[TrialRecord], best: TrialRecord | None, baseline: BaselineRecord) -> Table:
    title = f"Pareto front · the model itself: {baseline.refusals}/{baseline.prompts} refusals · * knee"
    table = Table(title=title, title_justify="left", title_style="bold")
    for column, justify in zip(FRONT_COLUMNS, ("left", "right", "right", "right", "left"), strict=True):
        table.add_column(column, justify=justify, no_wrap=True, overflow="ellipsis")  # type: ignore[arg-type]
    for row in front_rows(front, best, baseline):
        table.add_row(*row, style="bold green" if row[0] else "")
    return table
