"""Which bad prompts tell most of a candidate, and how many refusals a part of them stands for."""

from collections.abc import Collection, Sequence

FEWEST = 24
MOST = 0.7
"""A first part of more than this share of the prompts is not worth a batch of its own."""


class PromptOrder:
    """Learns from candidates that were measured to the end which prompts they declined."""

    def __init__(self, prompts: int) -> None:
        self._declined = [0] * prompts

    def learn(self, declined: Sequence[bool]) -> None:
        """Whether a fully measured candidate (or the baseline) declined each prompt."""
        self._declined = [count + each for count, each in zip(self._declined, declined, strict=True)]

    def first(self, enough: int) -> list[int]:
        """The prompts to ask first where `enough` refusals settle a candidate: those that were declined most often.

        About twice as many as could settle it, since not every one of them will be declined; all of them where the
        rest would be few.
        """
        size = max(FEWEST, 2 * enough + FEWEST // 3)
        if size > MOST * len(self._declined):
            return list(range(len(self._declined)))
        return self.most_declined(size)

    def most_declined(self, count: int) -> list[int]:
        """The prompts that were declined most often, at most `count` of them."""
        return sorted(range(len(self._declined)), key=lambda prompt: -self._declined[prompt])[:count]

    def share(self, prompts: Collection[int]) -> float:
        """The share of all refusals that fall on `prompts`, in (0, 1]; each prompt counts at least half a refusal."""
        weights = [count + 0.5 for count in self._declined]
        return sum(weights[prompt] for prompt in prompts) / sum(weights)
