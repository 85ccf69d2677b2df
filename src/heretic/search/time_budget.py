"""The time of a search."""

import time

LOOK = 0.25
"""About the share of a candidate's work that a look does."""


class Clock:
    """Time since the search of `trials` began, what remains, and whether another trial fits the budget."""

    def __init__(self, trials: int, budget: float | None) -> None:
        self._trials = trials
        self._budget = budget
        self._started = time.monotonic()
        self._done = 0.0

    def looked(self, candidates: int) -> None:
        """So many candidates were looked at, to be measured later."""
        self._done += LOOK * candidates

    def lap(self, looked: bool) -> None:
        """A trial was told, of a candidate that was looked at before or was not."""
        self._done += 1 - LOOK if looked else 1

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._started

    @property
    def _trial(self) -> float:
        """Seconds a trial, so far; 0 before anything is done."""
        return self.elapsed / self._done if self._done else 0.0

    @property
    def remaining(self) -> float | None:
        """Seconds that the other trials will take, or that the budget leaves; None before anything is done."""
        if not self._done:
            return None
        needed = max(0.0, self._trials - self._done) * self._trial
        return needed if self._budget is None else max(0.0, min(needed, self._budget - self.elapsed))

    def over(self, open_trials: int = 0) -> bool:
        """Whether another trial, behind those that are open, would end more than half of itself after the budget."""
        if self._budget is None:
            return False
        return self.elapsed + (open_trials + 0.5) * self._trial >= self._budget

    def fitting(self, trials: int) -> int:
        """How many of `trials` more the budget has time for: one at least, and all of them before anything is done."""
        if self._budget is None or not self._done:
            return trials
        return max(1, min(trials, round((self._budget - self.elapsed) / self._trial)))
