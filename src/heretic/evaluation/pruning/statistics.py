"""What candidates that were measured to the end teach about the others."""

from collections.abc import Collection, Sequence

from .prompt_order import PromptOrder
from .refusal_onset import RefusalOnset


class PruningStatistics:
    """Which prompts are declined most often, and by which token it shows; small, and the same wherever it is sent."""

    def __init__(self, prompts: int) -> None:
        self._informative = PromptOrder(prompts)
        self._seen_by = RefusalOnset()

    def learn(self, declined_at: Sequence[int | None]) -> None:
        """The token at which each prompt's response was known to be a refusal; None where it was none."""
        self._informative.learn([token is not None for token in declined_at])
        self._seen_by.learn([token for token in declined_at if token is not None])

    def first(self, enough: int) -> list[int]:
        """The prompts to ask first where `enough` refusals settle a candidate."""
        return self._informative.first(enough)

    def most_declined(self, count: int) -> list[int]:
        """The prompts that were declined most often, at most `count` of them."""
        return self._informative.most_declined(count)

    def share(self, prompts: Collection[int], token: int | None) -> float:
        """The share of a candidate's refusals that are known from `prompts` by `token` (None: by their end)."""
        return self._informative.share(prompts) * (1.0 if token is None else self._seen_by.share(token))
