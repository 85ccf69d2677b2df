"""The view on a terminal: moving bars, and the search as a table in one place."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderResult
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
from rich.progress_bar import ProgressBar
from rich.table import Table

from ..events import Progress, SearchState, SearchView, WorkerState
from ..printable import printable
from ..report.text import baseline_text, duration, front_columns, front_rows, metrics_text
from ..study.schema import BaselineRecord, TrialRecord
from .plot import front_plot
from .progress import SearchProgress
from .questions import confirmed
from .text import shown

ROWS_OF_FRONT = 8
LAST_TRIALS = 4
WIDEST_PLOT = 100
WIDEST_TABLE = 10_000


class LiveReporter:
    """Draws on a terminal with rich."""

    def __init__(self, console: Console, asks: bool = False) -> None:
        self._console = console
        self._asks = asks

    def say(self, text: str) -> None:
        self._console.print(shown(text))

    def warn(self, text: str) -> None:
        self._console.print(shown("Warning: ", style="yellow") + shown(text))

    def confirm(self, text: str, details: Sequence[str], question: str) -> bool:
        return confirmed(self, self._asks, text, details, question)

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Progress]:
        started = time.monotonic()
        # Names may hold brackets and colons, which are markup and emoji to rich where a text is not `Text`.
        columns = [SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(bar_width=24)]
        counted = [MofNCompleteColumn(), TimeRemainingColumn()] if total is not None else [TimeElapsedColumn()]
        with Bars(*columns, *counted, console=self._console, transient=True) as bars:
            task = bars.add_task(printable(title), total=total)
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
        if not any(columns):
            self._console.print(_pairs(title, rows))
            return
        # The first that fits, best without a line break in a cell. Cells are never cut off: half a number is wrong.
        ways = (_table(title, columns, rows), _table(title, *_turned(columns, rows)))
        widths = [self._widths(each) for each in ways]
        fitting = [way for way, (_, whole) in zip(ways, widths, strict=True) if whole <= self._console.width]
        fitting += [way for way, (least, _) in zip(ways, widths, strict=True) if least <= self._console.width]
        self._console.print(next(iter(fitting), _records(title, columns, rows)))

    def _widths(self, table: Table) -> tuple[int, int]:
        """The least width of a table whose cells break at spaces alone, and its width without a break."""
        found = self._console.measure(table, options=self._console.options.update(max_width=WIDEST_TABLE))
        return found.minimum, found.maximum


class _LiveSearch:
    """The running search: a bar above, the front below it, the last trials at the end."""

    def __init__(self, state: SearchState, rows_a_trial: int) -> None:
        self._progress = SearchProgress(state, rows_a_trial)
        self._last: list[str] = []
        self._live: Live | None = None

    def attach(self, live: Live) -> None:
        self._live = live

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The part of the view that fits the terminal's present size."""
        state = self._progress.state
        workers = state.workers()
        width, room = options.max_width, _Room.of((options.height or console.height) - bool(workers))
        yield self._bar()
        yield shown(f"{self._progress.times()} · Ctrl+C stops and keeps all", style="dim")
        if workers:
            yield shown(_workers_line(workers, state, width), style="dim")
        if state.front:
            if room.plot:
                size = min(width, WIDEST_PLOT), room.plot
                yield front_plot(state.trials, state.front, state.best, state.baseline, *size)
            yield _front_table(_around(state.best, state.front, room.front), state.best, state.baseline)
        else:
            yield shown(baseline_text(state.baseline).capitalize(), style="dim")
        for line in self._last[-room.last :]:
            yield shown(line, style="dim")

    def _bar(self) -> Table:
        state = self._progress.state
        line = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=state.wanted, completed=self._progress.trials, width=30)
        line.add_row("trials", bar, f"{state.finished}/{state.wanted}", shown(self._progress.prompts(), style="dim"))
        return line

    def rows(self, count: int) -> None:
        self._progress.add(count)

    def learning(self, point: int, step: int, steps: int, left: float) -> None:
        self._progress.learn(point, step, steps, left)

    def complete(self, trial: TrialRecord, state: SearchState) -> None:
        self._next(f"trial {trial.number}: {metrics_text(trial, state.baseline)}", state)

    def failed(self, number: int, reason: str, state: SearchState) -> None:
        self._next(f"trial {number} failed: {reason}", state)

    def _next(self, line: str, state: SearchState) -> None:
        self._progress.settle(state)
        self._last = [*self._last, line][-LAST_TRIALS:]
        if self._live is not None:
            self._live.refresh()


def _workers_line(workers: Sequence[WorkerState], state: SearchState, width: int) -> str:
    """The status of the actors, cut to one line, and the trials that they finish a minute."""
    rate = f"{60 * state.finished / state.elapsed:.1f} trials a minute" if state.elapsed else "no trial yet"
    each = " · ".join(f"{worker.name}: {worker.doing}" for worker in workers)
    line = f"{len(workers)} actors, {rate} · {each}"
    return line if len(line) <= width else f"{line[: width - 1]}…"


@dataclass(frozen=True, slots=True)
class _Room:
    """Rows of the plot (0: none), of the front's table, and of the last trials."""

    plot: int
    front: int
    last: int

    @classmethod
    def of(cls, height: int) -> "_Room":
        """The rows of a terminal without those of bars, heading, borders and the plot's axis."""
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


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=shown(title), title_justify="left")
    for place, column in enumerate(columns):
        # Rich makes a column narrower than its longest word where others could still break.
        words = [word for text in (column, *(row[place] for row in rows)) for word in printable(text).split()]
        table.add_column(shown(column), min_width=max(map(cell_len, words), default=0))
    for row in rows:
        table.add_row(*map(shown, row))
    return table


def _turned(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Columns and rows of the same table with its rows as columns."""
    first, *others = zip(columns, *rows, strict=True)
    return first, others


def _pairs(title: str, rows: Sequence[Sequence[str]]) -> Group:
    """Names and values without a heading."""
    pairs = Table.grid(padding=(0, 2))
    for style in ("dim", *[""] * (len(rows[0]) - 1 if rows else 0)):
        pairs.add_column(style=style, overflow="fold")
    for row in rows:
        pairs.add_row(*map(shown, (f"  {row[0]}", *row[1:])))
    return Group(shown(title, style="bold"), pairs)


def _records(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Group:
    """A table for a narrow terminal: a line for each cell, with the name of its column; none for empty cells."""
    records = Table.grid(padding=(0, 2))
    for style in ("bold", "dim", ""):
        records.add_column(style=style, overflow="fold")
    for first, *others in rows:
        cells = [pair for pair in zip(columns[1:], others, strict=True) if pair[1]]
        for place, (column, cell) in enumerate(cells):
            records.add_row(*map(shown, ("" if place else first, column, cell)))
    return Group(shown(title, style="italic"), records)


def _front_table(front: Sequence[TrialRecord], best: TrialRecord | None, baseline: BaselineRecord) -> Table:
    title = f"Pareto front · {baseline_text(baseline)} · * knee"
    table = Table(title=title, title_justify="left", title_style="bold", expand=True)
    columns, rows = front_columns(baseline), front_rows(front, best, baseline)
    for place, column in enumerate(columns[:-1]):
        # Metrics are never cut off; the strengths are, if they don't fit.
        width = max([len(column), *(len(row[place]) for row in rows)])
        table.add_column(column, justify="right" if place else "left", no_wrap=True, min_width=width)
    table.add_column(columns[-1], no_wrap=True, overflow="ellipsis", ratio=1)
    for row in rows:
        table.add_row(*row, style="bold green" if row[0] else "")
    return table
