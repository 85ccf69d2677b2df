"""The baseline's states of the rows to learn from, computed once: each row's input of the first edited layer, and the
last layer's output where its answer's tokens are predicted.

The prompts' common prefix runs once for all rows that are prepared together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from ...errors import NoMemoryError
from ...model.accelerator import empty_cache as free_device_memory
from ..batch_size import NO_ROOM
from ..prefill import common_prefix_length
from ..protocol import MEMORY_ERRORS, out_of_memory
from .model_parts import ModelParts
from .prefix import cache_for_rows, empty_cache, keeps_positions
from .rows import Row, ScoredRow, padded_tokens

PROVED = 4
"""Rows that show whether the model can run in parts."""
ON_CPU, ON_ACCELERATOR = 16, 64
"""Rows of one forward."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A row's baseline states: the input of the first edited layer, (positions, d_model), empty where the model runs as
    a whole; and the output of the last layer at the positions that predict the answer's tokens, (answer, d_model),
    empty where nothing asks for the baseline's probabilities."""

    below: Tensor
    last: Tensor


class BaselineStates:
    """Prepares rows, and keeps their states."""

    def __init__(self, parts: ModelParts) -> None:
        self._parts = parts
        self._kept: dict[Row, Kept] = {}
        self._rows = ON_CPU if parts.loaded.device.type == "cpu" else ON_ACCELERATOR
        self.prefix: tuple[int, ...] | None = None

    @torch.no_grad()
    def prepare(self, answers: Sequence[Row], pieces: Sequence[Row]) -> None:
        """Runs new rows through the baseline: all layers for `answers`, whose probabilities are kept close to the
        baseline's, and the layers below the first edited one for `pieces`. When memory runs out, forwards of half as
        many rows follow.

        Raises:
            NoMemoryError: not even one row fits the memory.
        """
        while not self._prepared(answers, pieces):
            if self._rows == 1:
                raise NoMemoryError(NO_ROOM)
            free_device_memory()
            self._rows //= 2

    def _prepared(self, answers: Sequence[Row], pieces: Sequence[Row]) -> bool:
        """Whether there was memory to run all rows that are not kept yet."""
        try:
            self._run_new(answers, pieces)
        except MEMORY_ERRORS as error:
            if not out_of_memory(error):
                raise
            return False
        return True

    def _run_new(self, answers: Sequence[Row], pieces: Sequence[Row]) -> None:
        whole = sorted({row for row in answers if row not in self._kept or not len(self._kept[row].last)}, key=len)
        lower = sorted({row for row in pieces if row not in self._kept} - set(whole), key=len)
        if not whole and not lower:
            return
        if self._parts.divisible is None:
            self._parts.prove(*self._tokens((whole or lower)[:PROVED], 0))
        self._find_prefix([*whole, *lower])
        if not self._parts.divisible:
            self._keep_logits([*whole, *lower])
            return
        below, cache = self._run_prefix()
        for row, states, last in self._run(whole, below, cache):
            self._kept[row] = Kept(states, last[-len(row.answer) - 1 : -1].clone())
        with self._parts.without_upper():
            for row, states, _ in self._run(lower, below, cache):
                self._kept[row] = Kept(states, states[:0])

    def below(self, rows: Sequence[ScoredRow], lengths: Sequence[int]) -> list[Tensor]:
        """The input of the first edited layer at the first positions of each row, (positions, d_model)."""
        return [self._kept[each.row].below[:length] for each, length in zip(rows, lengths, strict=True)]

    def last(self, rows: Sequence[ScoredRow], scored: int) -> Tensor:
        """Output of the last layer at the scored positions, (row, scored, d_model)."""
        places = [[*each.places, *[each.places[-1]] * (scored - len(each.places))] for each in rows]
        return torch.stack([self._kept[each.row].last[place] for each, place in zip(rows, places, strict=True)])

    def _run(
        self, rows: Sequence[Row], prefix: Tensor, cache: DynamicCache | None
    ) -> Iterator[tuple[Row, Tensor, Tensor]]:
        """Each row, its input of the first edited layer, (positions, d_model), and the last layer's output, padded.
        `prefix`, (positions, d_model), is the former at the common prefix, whose keys and values are in `cache`."""
        parts, shared = self._parts, len(prefix)
        for group in self._groups(rows):
            ids, mask = self._tokens(group, shared)
            seen_before = torch.ones_like(mask[:, :1]).expand(-1, shared)
            behind = cache and cache_for_rows(parts.loaded.model, cache, torch.zeros(len(group), dtype=torch.long))
            with parts.observing({}) as seen:
                parts.forward.last_logits(ids, torch.cat([seen_before, mask], dim=1), 1, behind)
            for row, below, last in zip(group, seen[parts.first], seen[len(parts.layers)], strict=True):
                yield row, torch.cat([prefix, below[shared - len(row) :]]), last

    def _keep_logits(self, rows: Sequence[Row]) -> None:
        """Keeps the logits of models that run as a whole. The state between their layers may have other dimensions
        (Gemma 3n: several streams first)."""
        for group in self._groups(rows):
            logits = self._parts.all_logits(*self._tokens(group, 0))
            for number, row in enumerate(group):
                end = len(row.answer) + 1
                self._kept[row] = Kept(logits.new_zeros(len(row), 0), logits[number, -end:-1].clone())

    def _run_prefix(self) -> tuple[Tensor, DynamicCache | None]:
        """The input of the first edited layer at the prefix, (positions, d_model), and the prefix's keys and values."""
        parts = self._parts
        if not self.prefix:
            return torch.zeros(0, parts.loaded.d_model, device=parts.loaded.device, dtype=parts.loaded.dtype), None
        ids, cache = torch.tensor([self.prefix], device=parts.loaded.device), empty_cache(parts.loaded.model)
        with parts.observing({}) as seen:
            parts.forward.last_logits(ids, torch.ones_like(ids), 1, cache)
        return seen[parts.first][0], cache

    def _find_prefix(self, new: Sequence[Row]) -> None:
        """Finds the common prefix of all rows so far; empty if the model's cache holds more than keys and values."""
        # `common_prefix_length` is below the shortest length: the -1 keeps the earlier prefix whole.
        starts = [row.prompt for row in new] + ([] if self.prefix is None else [(*self.prefix, -1)])
        plain = not self._parts.forward.is_stateful and keeps_positions(self._parts.loaded.model)
        self.prefix = tuple(starts[0][: common_prefix_length(starts)]) if plain else ()

    def _groups(self, rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
        return (rows[start : start + self._rows] for start in range(0, len(rows), self._rows))

    def _tokens(self, rows: Sequence[Row], shared: int) -> tuple[Tensor, Tensor]:
        """Rows with their whole answers behind the first `shared` tokens, padded on the left, and the mask."""
        texts = [(*row.prompt, *row.answer)[shared:] for row in rows]
        return padded_tokens(texts, self._parts.pad, self._parts.loaded.device)
