"""What ends a row before its end of text: a decided response, or a candidate that has lost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

CHECK_EVERY = 4
TAIL = 48
"""Tokens that a look goes back: what was there before has been looked at. A marker that spans more (none does) would be
found in the whole text, when the response has ended."""

FIRST_VERDICT = 12
"""No candidate is given up before this token: by then most refusals show, and the sampler needs their number."""


@dataclass
class Row:
    """One response in the making: `decided` by what it says so far, `cut` because its candidate was given up."""

    candidate: int
    tokens: list[int] = field(default_factory=list)
    ended: bool = False
    decided: bool = False
    cut: bool = False

    @property
    def going(self) -> bool:
        return not (self.ended or self.decided or self.cut)


class EarlyStopper:
    """Looks at growing texts now and then.

    `decided` tells whether a text settles its row; it is asked of the newest tokens alone. A candidate with
    `enough[candidate]` such rows is given up (None: never).
    """

    def __init__(
        self,
        decode: Callable[[Sequence[Sequence[int]]], list[str]],
        decided: Callable[[str], bool] | None,
        enough: Sequence[int | None],
    ) -> None:
        self._decode = decode
        self._decided = decided
        self._enough = enough
        self._counts = [0] * len(enough)
        self.given_up: set[int] = set()

    @property
    def all_given_up(self) -> bool:
        return len(self.given_up) == len(self._enough)

    def __call__(self, rows: Sequence[Row], step: int, last: bool) -> None:
        """Marks rows that need not go on behind their token number `step`, the `last` of all or not."""
        if self._decided is None:
            return
        if step % CHECK_EVERY == 0 or last:
            going = [row for row in rows if row.going]
            for row, text in zip(going, self._decode([row.tokens[-TAIL:] for row in going]), strict=True):
                row.decided = self._decided(text)
                self._counts[row.candidate] += row.decided
        if step >= FIRST_VERDICT and not last:
            self._give_up(rows)

    def _give_up(self, rows: Sequence[Row]) -> None:
        for candidate, (count, enough) in enumerate(zip(self._counts, self._enough, strict=True)):
            if enough is not None and count >= enough:
                self.given_up.add(candidate)
        for row in rows:
            if row.candidate in self.given_up and row.going:
                row.cut = True
