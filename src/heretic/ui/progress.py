"""The progress of a search, also between the ends of its trials."""

import time

from ..events import SearchState
from ..report.text import duration, learning_text


class SearchProgress:
    """Prompts done and times, also while no trial ends; several trials may be running at once."""

    def __init__(self, state: SearchState, rows_a_trial: int) -> None:
        self._rows_a_trial = rows_a_trial
        self._prompts = 0
        self.settle(state)

    def learn(self, point: int, step: int, steps: int, left: float) -> None:
        """Reports the finished steps of a learned point."""
        self.learning = learning_text(point, step, steps, left) if step < steps else ""

    def add(self, count: int) -> None:
        """`count` more prompts are done, of any trial."""
        self._prompts = min(self._prompts + count, self.wanted_prompts)

    def settle(self, state: SearchState) -> None:
        """A trial ended. Prompts that it left out, because it was pruned, count as done; those that ran twice, once."""
        self.state = state
        self._since = time.monotonic()
        least, most = (trials * self._rows_a_trial for trials in (state.finished, state.finished + state.under_way))
        self._prompts = min(max(self._prompts, least), most)
        self.learning = ""

    @property
    def wanted_prompts(self) -> int:
        return self.state.wanted * self._rows_a_trial

    @property
    def trials(self) -> float:
        """Trials done, and the fractions of those running."""
        return self._prompts / self._rows_a_trial

    def prompts(self) -> str:
        return f"{self._prompts} of {self.wanted_prompts} prompts"

    def times(self) -> str:
        """3 min 5 s elapsed, 1 h 2 min left."""
        waited = time.monotonic() - self._since
        if self.learning:
            return f"{duration(self.state.elapsed + waited)} elapsed, {self.learning}"
        gone = f"{duration(self.state.elapsed + waited)} elapsed"
        if self.state.remaining is None:
            return f"{gone}, measuring the first trials" if not self.state.finished else f"{gone}, measuring"
        return f"{gone}, {duration(max(0.0, self.state.remaining - waited))} left"
