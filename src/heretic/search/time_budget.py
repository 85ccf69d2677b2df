"""The time that a search has taken, and the time left in its budget."""

import time
from dataclasses import dataclass

PREVIEW = 0.25
"""Approximate share of a candidate's evaluation that its preview takes."""

MOST_FOR_HELDOUT = 0.5
"""Maximum share of the budget that is reserved for the held-out evaluation: the search needs the rest."""


@dataclass(frozen=True, slots=True)
class HeldoutCost:
    """The expected cost of the held-out evaluation after a search.

    `prompts` is the cost of a model in prompts of the search, which are timed. At most `most` candidates of the front
    are measured, and the baseline, `together` at once.
    """

    prompts: float = 0.0
    most: int = 0
    together: int = 1

    def of(self, front: int) -> float:
        """In prompts of the search, for a front of so many candidates."""
        return self.prompts * (1 + min(front, self.most)) / self.together


@dataclass(frozen=True, slots=True)
class LearningTime:
    """The cost of learning candidates: `seconds` for `done` steps. `left` steps remain until the last trial, `next` of
    them until the next one."""

    seconds: float = 0.0
    done: int = 0
    left: int = 0
    next: int = 0

    def of(self, steps: int) -> float:
        """Seconds that so many steps will take; 0 before anything is known."""
        return steps * self.seconds / self.done if self.done else 0.0


class Clock:
    """Time since a search of `trials` began, time remaining, and whether a trial more fits the `budget` (seconds).

    The budget covers the held-out evaluation after the search: the time that it is expected to take is reserved.
    """

    def __init__(self, trials: int, budget: float | None, heldout: HeldoutCost = HeldoutCost()) -> None:
        self._trials = trials
        self._whole = budget
        self._heldout = heldout
        self._started = time.monotonic()
        self._done = 0.0
        self._prompts = 0
        self._front = 0
        self.learning = LearningTime()

    def add_previews(self, count: int) -> None:
        """Counts `count` previews of candidates that are evaluated later."""
        self._done += PREVIEW * count

    def add_trial(self, previewed: bool) -> None:
        """Counts a finished trial; the preview of a `previewed` candidate has been counted."""
        self._done += 1 - PREVIEW if previewed else 1

    def add_prompts(self, count: int) -> None:
        """Counts `count` prompts of any candidates."""
        self._prompts += count

    def set_front(self, candidates: int) -> None:
        """Updates the number of candidates on the front."""
        self._front = candidates

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._started

    @property
    def reserved(self) -> float:
        """Seconds of the budget that the held-out evaluation is expected to take."""
        if self._whole is None or not self._prompts:
            return 0.0
        expected = self._heldout.of(self._front) * self.elapsed / self._prompts
        return min(expected, MOST_FOR_HELDOUT * self._whole)

    @property
    def _budget(self) -> float | None:
        """Seconds for the search alone."""
        return None if self._whole is None else self._whole - self.reserved

    @property
    def _measured(self) -> float:
        """Mean seconds that a trial was measured so far; 0 before anything is done."""
        return max(0.0, self.elapsed - self.learning.seconds) / self._done if self._done else 0.0

    @property
    def _trial(self) -> float:
        """Seconds that another trial will take; 0 before anything is done."""
        return self._measured + self.learning.of(self.learning.next)

    @property
    def remaining(self) -> float | None:
        """Seconds that the remaining trials will take, or that the budget leaves; None before anything is done."""
        if not self._done:
            return None
        measuring = max(0.0, self._trials - self._done) * self._measured
        needed, budget = measuring + self.learning.of(self.learning.left), self._budget
        return needed if budget is None else max(0.0, min(needed, budget - self.elapsed))

    def exceeded_after(self, seconds: float) -> bool:
        """Whether so many seconds more take longer than the budget."""
        return self._whole is not None and self.elapsed + seconds > self._whole

    def over(self, open_trials: int = 0) -> bool:
        """Whether more than half of another trial, started after the open ones, would exceed the budget."""
        budget = self._budget
        return budget is not None and self.elapsed + open_trials * self._measured + 0.5 * self._trial >= budget

    def fitting(self, trials: int) -> int:
        """How many of `trials` more fit the budget: at least one, and all of them before anything is done."""
        budget = self._budget
        if budget is None or not self._done:
            return trials
        return max(1, min(trials, round((budget - self.elapsed) / self._trial)))
