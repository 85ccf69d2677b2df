"""The order of the bad prompts by how often they are declined, and an estimate of all refusals from a part of them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

FEWEST = 24
"""Prompts of a first batch at least: fewer would seldom settle a candidate."""
MOST = 0.7
"""If the first batch has more than this share of the prompts, the rest is not worth a separate batch."""


@dataclass(frozen=True, slots=True)
class PromptOrder:
    """How many fully evaluated candidates declined each prompt."""

    declined: tuple[int, ...]

    @classmethod
    def of(cls, prompts: int) -> "PromptOrder":
        """The order of this number of prompts before anything is known."""
        return cls((0,) * prompts)

    def learn(self, declined: Sequence[bool]) -> "PromptOrder":
        """With one more candidate (or the baseline), by the prompts that it declined."""
        return replace(self, declined=tuple(n + each for n, each in zip(self.declined, declined, strict=True)))

    def first_batch(self, limit: int) -> list[int]:
        """The prompts to run first if `limit` refusals settle a candidate: those that were declined most often.

        About twice as many as could settle it, since not every one of them will be declined; all of them if few would
        be left.
        """
        size = max(FEWEST, 2 * limit + FEWEST // 3)
        if size > MOST * len(self.declined):
            return list(range(len(self.declined)))
        return self.most_declined(size)

    def most_declined(self, count: int) -> list[int]:
        """The prompts that were declined most often, at most `count` of them."""
        return sorted(range(len(self.declined)), key=lambda prompt: -self.declined[prompt])[:count]

    def share(self, prompts: Collection[int]) -> float:
        """The share of all refusals that fall on `prompts`, in (0, 1]; each prompt counts at least half a refusal."""
        weights = [count + 0.5 for count in self.declined]
        return sum(weights[prompt] for prompt in prompts) / sum(weights)
