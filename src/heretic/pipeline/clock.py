"""The time of a search."""

import time


class Clock:
    """Time since the search began, how long a trial takes, and whether another one fits the budget."""

    def __init__(self, budget: float | None) -> None:
        self._budget = budget
        self._started = time.monotonic()
        self._trials = 0

    def lap(self, trials: int) -> None:
        self._trials += trials

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._started

    @property
    def _trial(self) -> float:
        """Seconds a trial, so far; 0 before the first."""
        return self.elapsed / self._trials if self._trials else 0.0

    def remaining(self, trials: int) -> float | None:
        """Seconds that `trials` more will take, or that the budget leaves; None before the first trial."""
        if self._trials == 0:
            return None
        needed = trials * self._trial
        return needed if self._budget is None else max(0.0, min(needed, self._budget - self.elapsed))

    def over(self, open_trials: int = 0) -> bool:
        """Whether another trial, behind those that are open, would end more than half of itself after the budget."""
        if self._budget is None:
            return False
        return self.elapsed + (open_trials + 0.5) * self._trial >= self._budget

    def fitting(self, trials: int) -> int:
        """How many of `trials` more the budget has time for: one at least, and all of them before the first."""
        if self._budget is None or self._trials == 0:
            return trials
        return max(1, min(trials, round((self._budget - self.elapsed) / self._trial)))
