"""How many of a candidate's refusals show by a given token."""

from collections.abc import Iterable


class RefusalOnset:
    """Learns from candidates that were measured to the end at which token their refusals showed."""

    def __init__(self) -> None:
        self._tokens: list[int] = []

    def learn(self, tokens: Iterable[int]) -> None:
        """The tokens at which a fully measured candidate's refusals were decided."""
        self._tokens.extend(tokens)

    def share(self, token: int) -> float:
        """The share of refusals that show by `token`, in (0, 1].

        One refusal seen early is assumed besides those learnt, so that few of them do not decide alone.
        """
        early = sum(each <= token for each in self._tokens)
        return (early + 1) / (len(self._tokens) + 1)
