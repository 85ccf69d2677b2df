"""The time that a search has taken, and what its budget leaves."""

import time

PREVIEW = 0.25
"""Approximate share of a candidate's evaluation that its preview takes."""


class Clock:
    """Time since a search of `trials` began, time remaining, and whether a trial more fits the `budget` (seconds)."""

    def __init__(self, trials: int, budget: float | None) -> None:
        self._trials = trials
        self._budget = budget
        self._started = time.monotonic()
        self._done = 0.0

    def add_previews(self, count: int) -> None:
        """Counts `count` previews of candidates that are evaluated later."""
        self._done += PREVIEW * count

    def add_trial(self, previewed: bool) -> None:
        """Counts a finished trial; the preview of a `previewed` candidate has been counted."""
        self._done += 1 - PREVIEW if previewed else 1

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._started

    @property
    def _trial(self) -> float:
        """Mean seconds per trial so far; 0 before anything is done."""
        return self.elapsed / self._done if self._done else 0.0

    @property
    def remaining(self) -> float | None:
        """Seconds that the remaining trials will take, or that the budget leaves; None before anything is done."""
        if not self._done:
            return None
        needed = max(0.0, self._trials - self._done) * self._trial
        return needed if self._budget is None else max(0.0, min(needed, self._budget - self.elapsed))

    def over(self, open_trials: int = 0) -> bool:
        """Whether more than half of another trial, started after the open ones, would exceed the budget."""
        if self._budget is None:
            return False
        return self.elapsed + (open_trials + 0.5) * self._trial >= self._budget

    def fitting(self, trials: int) -> int:
        """How many of `trials` more fit the budget: at least one, and all of them before anything is done."""
        if self._budget is None or not self._done:
            return trials
        return max(1, min(trials, round((self._budget - self.elapsed) / self._trial)))
