"""The view in a notebook: a line with a moving bar for each step, and one block for the search."""

import html
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..events import Progress, SearchState, SearchView
from ..printable import printable
from ..report.text import baseline_text, duration, front_columns, front_rows, metrics_text
from ..study.schema import BaselineRecord, TrialRecord
from .progress import SearchProgress

SECONDS_BETWEEN_UPDATES = 0.5


def in_notebook() -> bool:
    """Whether this is a Jupyter kernel, which shows HTML."""
    shell = sys.modules.get("IPython")
    return shell is not None and type(shell.get_ipython()).__name__ == "ZMQInteractiveShell"


class Block:
    """One place in a cell's output, whose content changes."""

    def __init__(self) -> None:
        from IPython.display import HTML, display

        self._html = HTML
        self._handle: Any = display(HTML(""), display_id=True)
        self._last = 0.0

    def show(self, content: str, at_once: bool = True) -> None:
        now = time.monotonic()
        if at_once or now - self._last >= SECONDS_BETWEEN_UPDATES:
            self._last = now
            self._handle.update(self._html(content))


class NotebookReporter:
    """Shows HTML in the cell that runs."""

    def say(self, text: str) -> None:
        Block().show(f"<pre style='margin:0'>{_escaped(text)}</pre>")

    def warn(self, text: str) -> None:
        Block().show(f"<pre style='margin:0;color:#b35900'>Warning: {_escaped(text)}</pre>")

    def confirm(self, text: str, details: Sequence[str], question: str) -> bool:
        """Always False: in a notebook, consent is given by settings."""
        return False

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Progress]:
        block, started, done = Block(), time.monotonic(), 0
        block.show(_bar(title, 0, total))

        def progress(count: int) -> None:
            nonlocal done
            done += count
            block.show(_bar(title, done, total), at_once=False)

        yield progress
        taken = duration(time.monotonic() - started)
        counted = f"{total} in " if total is not None else ""
        block.show(f"<pre style='margin:0'>{_escaped(title)}: {counted}{taken}</pre>")

    @contextmanager
    def search(self, state: SearchState, rows_a_trial: int) -> Iterator[SearchView]:
        yield _NotebookSearch(state, rows_a_trial)

    def front(self, front: Sequence[TrialRecord], best: TrialRecord | None, baseline: BaselineRecord) -> None:
        title = f"Pareto front ({baseline_text(baseline)}; * marks the knee)"
        self.table(title, front_columns(baseline), front_rows(front, best, baseline))

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        Block().show(_table(title, columns, rows))


class _NotebookSearch:
    """The running search: a bar, the front, the last trial."""

    def __init__(self, state: SearchState, rows_a_trial: int) -> None:
        self._block = Block()
        self._progress = SearchProgress(state, rows_a_trial)
        self._last = ""
        self._show(at_once=True)

    def rows(self, count: int) -> None:
        self._progress.add(count)
        self._show(at_once=False)

    def learning(self, point: int, step: int, steps: int, left: float) -> None:
        self._progress.learn(point, step, steps, left)
        self._show(at_once=False)

    def complete(self, trial: TrialRecord, state: SearchState) -> None:
        self._next(f"trial {trial.number}: {metrics_text(trial, state.baseline)}", state)

    def failed(self, number: int, reason: str, state: SearchState) -> None:
        self._next(f"trial {number} failed: {reason}", state)

    def _next(self, line: str, state: SearchState) -> None:
        self._progress.settle(state)
        self._last = line
        self._show(at_once=True)

    def _show(self, at_once: bool) -> None:
        state, progress = self._progress.state, self._progress
        counted = f" {state.finished}/{state.wanted}, {progress.prompts()}"
        parts = [
            _bar("trials", progress.trials, state.wanted, counted),
            f"<pre style='margin:0'>{_escaped(f'{progress.times()}. {self._last}')}</pre>",
        ]
        if state.front:
            parts.append(
                _table(
                    "Pareto front so far",
                    front_columns(state.baseline),
                    front_rows(state.front, state.best, state.baseline),
                )
            )
        self._block.show("".join(parts), at_once)


def _escaped(text: str) -> str:
    return html.escape(printable(text))


def _bar(title: str, done: float, total: int | None, counted: str | None = None) -> str:
    value = f" value='{done:g}' max='{total}'" if total else ""
    if counted is None:
        counted = f" {done:g}/{total}" if total else ""
    return (
        f"<div><code>{_escaped(title)}</code> <progress{value} style='width:16em'></progress>"
        f"<code>{counted}</code></div>"
    )


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th style='text-align:left'>{_escaped(column)}</th>" for column in columns)
    body = "".join(
        f"<tr>{''.join(f'<td style=text-align:left>{_escaped(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return f"<table><caption>{_escaped(title)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
