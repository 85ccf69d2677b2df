"""The share of a candidate's refusals that are known by a given token."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RefusalOnset:
    """The empirical distribution of the token at which a refusal of a fully evaluated candidate was known."""

    tokens: tuple[int, ...] = ()

    def learn(self, tokens: Iterable[int]) -> "RefusalOnset":
        """With the refusals of one more candidate."""
        return RefusalOnset((*self.tokens, *tokens))

    def share(self, token: int) -> float:
        """The share of refusals that are known by `token`, in (0, 1].

        One early refusal is assumed in addition, so that a few observations do not decide alone.
        """
        early = sum(each <= token for each in self.tokens)
        return (early + 1) / (len(self.tokens) + 1)
