"""Early ends of a response: its text is settled, or its candidate is pruned."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .protocol import IsSettled

CHECK_INTERVAL = 4
"""Tokens between two checks of a text. A check decodes text on the CPU; at most 3 surplus tokens are generated."""

TAIL_TOKENS = 48
"""Newest tokens that a check reads; earlier ones were checked before. No refusal marker spans as
many, and one that did would be found in the whole text after the response has ended."""

MIN_TOKENS_BEFORE_PRUNING = 12
"""Most refusals show by this token. The sampler needs their number: it learns too little from a candidate that is
pruned earlier."""


@dataclass
class RowState:
    """One response being generated: `settled` by its text so far, or `pruned` with its candidate."""

    candidate: int
    tokens: list[int] = field(default_factory=list)
    ended: bool = False
    settled: bool = False
    pruned: bool = False

    @property
    def active(self) -> bool:
        return not (self.ended or self.settled or self.pruned)


class EarlyStopper:
    """Checks growing texts every few tokens.

    `is_settled` is called with the newest tokens of each row. A candidate with `prune_at[candidate]` settled rows is
    pruned (None: never).
    """

    def __init__(
        self,
        decode: Callable[[Sequence[Sequence[int]]], list[str]],
        is_settled: IsSettled | None,
        prune_at: Sequence[int | None],
    ) -> None:
        self._decode = decode
        self._is_settled = is_settled
        self._prune_at = prune_at
        self._n_settled = [0] * len(prune_at)
        self.pruned: set[int] = set()

    def __call__(self, rows: Sequence[RowState], step: int, last: bool) -> None:
        """Ends rows that need no token after number `step`; `last`: this is the last token in any case."""
        if self._is_settled is None:
            return
        if step % CHECK_INTERVAL == 0 or last:
            active = [row for row in rows if row.active]
            for row, text in zip(active, self._decode([row.tokens[-TAIL_TOKENS:] for row in active]), strict=True):
                row.settled = self._is_settled(text)
                self._n_settled[row.candidate] += row.settled
        if step >= MIN_TOKENS_BEFORE_PRUNING and not last:
            self._prune(rows)

    def _prune(self, rows: Sequence[RowState]) -> None:
        for candidate, (count, limit) in enumerate(zip(self._n_settled, self._prune_at, strict=True)):
            if limit is not None and count >= limit:
                self.pruned.add(candidate)
        for row in rows:
            if row.candidate in self.pruned and row.active:
                row.pruned = True
