"""Statistics of fully evaluated candidates, by which others are pruned."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from .prompt_order import PromptOrder
from .refusal_onset import RefusalOnset


@dataclass(frozen=True, slots=True)
class PruningStatistics:
    """Which prompts are declined most often, and by which token a refusal is known. It is small, and sent with every
    candidate."""

    order: PromptOrder
    onset: RefusalOnset = field(default_factory=RefusalOnset)

    @classmethod
    def of(cls, prompts: int) -> "PruningStatistics":
        """The statistics of this number of prompts before anything is known."""
        return cls(PromptOrder.of(prompts))

    def learn(self, declined_at: Sequence[int | None]) -> "PruningStatistics":
        """With one more candidate: the token at which each response was known to be a refusal (None: it was none)."""
        return PruningStatistics(
            self.order.learn([token is not None for token in declined_at]),
            self.onset.learn(token for token in declined_at if token is not None),
        )

    def first_batch(self, limit: int) -> list[int]:
        """The prompts to run first if `limit` refusals settle a candidate."""
        return self.order.first_batch(limit)

    def most_declined(self, count: int) -> list[int]:
        """The prompts that were declined most often, at most `count` of them."""
        return self.order.most_declined(count)

    def share(self, prompts: Collection[int], token: int | None) -> float:
        """The share of a candidate's refusals that are known from `prompts` by `token` (None: by their end)."""
        return self.order.share(prompts) * (1.0 if token is None else self.onset.share(token))
