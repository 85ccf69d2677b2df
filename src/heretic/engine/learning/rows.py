"""Rows to learn from: prompts followed by answers, and the tokens of the answers that are scored."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt and an answer to it, as tokens."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """A row and the indices, ascending, of the tokens of its answer that are scored."""

    row: Row
    places: tuple[int, ...]

    @property
    def tokens(self) -> tuple[int, ...]:
        """The scored tokens."""
        return tuple(self.row.answer[place] for place in self.places)

    def behind(self, count: int) -> "ScoredRow":
        """The row with none of its first `count` tokens scored; the last scored one stays."""
        return ScoredRow(self.row, tuple(place for place in self.places if place >= count) or self.places[-1:])


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows side by side, padded on the left.

    `positions[r, k]` is the position of the logits for row r's k-th scored token, one before the token itself. Rows
    with fewer scored tokens than others repeat their last one; `counted` is the mask that excludes the repeats.
    """

    ids: Int[Tensor, "row position"]
    mask: Int[Tensor, "row position"]
    positions: Int[Tensor, "row scored"]
    tokens: Int[Tensor, "row scored"]
    counted: Tensor


def join(rows: Sequence[ScoredRow], pad: int, device: torch.device) -> Batch:
    """The rows as one batch; each answer is cut before its last scored token, which needs no input of its own."""
    texts = [(*each.row.prompt, *each.row.answer[: each.places[-1]]) for each in rows]
    longest, most = max(map(len, texts)), max(len(each.places) for each in rows)
    positions, tokens, counted = [], [], []
    for each, text in zip(rows, texts, strict=True):
        missing = most - len(each.places)
        first = longest - len(text) + len(each.row.prompt) - 1
        positions.append([first + place for place in each.places] + [first + each.places[-1]] * missing)
        tokens.append([*each.tokens, *[each.tokens[-1]] * missing])
        counted.append([1.0] * len(each.places) + [0.0] * missing)
    whole = [torch.tensor(each, device=device) for each in (positions, tokens, counted)]
    return Batch(*padded_tokens(texts, pad, device), *whole)


def padded_tokens(
    texts: Sequence[Sequence[int]], pad: int, device: torch.device
) -> tuple[Int[Tensor, "row position"], Int[Tensor, "row position"]]:
    """The texts as one batch, padded on the left, and its mask."""
    longest = max(map(len, texts))
    ids = [[pad] * (longest - len(text)) + list(text) for text in texts]
    mask = [[0] * (longest - len(text)) + [1] * len(text) for text in texts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def padded_states(states: Sequence[Tensor]) -> Tensor:
    """States (positions, d_model) of rows as one tensor, (row, position, d_model), padded on the left."""
    longest = max(map(len, states))
    padded = states[0].new_zeros(len(states), longest, states[0].shape[-1])
    for number, state in enumerate(states):
        padded[number, longest - len(state) :] = state
    return padded
