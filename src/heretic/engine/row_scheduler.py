"""Continuous batching: the slots of finished rows are given to waiting ones."""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from .decoding import OnToken, append_tokens
from .early_stop import CHECK_INTERVAL, MIN_TOKENS_BEFORE_PRUNING, RowState

ADMITTED_FRACTION = 1 / 8
"""Waiting rows are prefilled once this share of the batch is free: each prefill reads all weights, as a step does."""


@runtime_checkable
class Tokens(Protocol):
    """Tokens that are being copied from the device."""

    def tokens(self) -> list[list[int]]:
        """(tokens, rows); waits for the copy."""
        ...


@dataclass(frozen=True, slots=True)
class Admitted:
    """Admitted rows: each one's prompt, candidate and slot in the batch, and the first `tokens`, (1, rows)."""

    prompts: Sequence[int]
    candidates: Sequence[int]
    slots: Sequence[int]
    tokens: Tokens


@runtime_checkable
class RowBatch(Protocol):
    """A batch on a device, with a slot for each of `n_slots` rows."""

    @property
    def n_slots(self) -> int: ...

    def admit(self, prompts: Sequence[int], candidates: Sequence[int], free: Sequence[int]) -> Admitted:
        """Prefills each of `prompts` under each of `candidates`, in slots from `free`."""
        ...

    def advance(self, n_tokens: int) -> Tokens:
        """Chooses the next tokens of the rows in all slots, at most `CHECK_INTERVAL`."""
        ...

    def shrink(self, active: Sequence[int]) -> dict[int, int] | None:
        """Moves the rows at `active` to a smaller batch if they fit one, and returns their new slots; else None."""
        ...


@dataclass(slots=True, eq=False)
class _Wave:
    """Rows that were admitted together, and so have equally many tokens; they belong to `n_prompts` prompts."""

    rows: list[RowState]
    slots: list[int]
    n_prompts: int
    n_chosen: int = 1
    n_read: int = 0

    def active_slots(self) -> list[int]:
        return [slot for row, slot in zip(self.rows, self.slots, strict=True) if row.active]


class RowScheduler:
    """Decodes prompts under candidates in the slots of one batch.

    A prompt is admitted under all candidates that are not pruned: shortest prompts first, once enough slots are free.
    Up to `n_reads` reads are in flight: while the host reads tokens, the device chooses the next ones, and those of
    rows that have finished meanwhile are dropped. The order depends on the tokens alone, so the same rows give the same
    schedule.
    """

    def __init__(
        self,
        batch: RowBatch,
        end_tokens: Container[int],
        max_new_tokens: int,
        on_token: OnToken,
        pruned: Container[int] = frozenset(),
        n_reads: int = 1,
    ) -> None:
        self._batch = batch
        self._end_tokens = end_tokens
        self._max_new_tokens = max_new_tokens
        self._on_token = on_token
        self._pruned = pruned
        self._n_reads = n_reads
        self._waves: list[_Wave] = []
        # Each read keeps the rows and slots of the moment when it started, since rows move later.
        self._reads: list[tuple[list[tuple[_Wave, list[RowState], list[int]]], Tokens]] = []

    def run(
        self, prompts: Sequence[int], candidates: Sequence[int], progress: Callable[[int], None]
    ) -> dict[tuple[int, int], RowState]:
        """Rows by candidate and prompt. Rows of a candidate that was pruned before their admission are missing."""
        waiting = list(prompts)
        rows: dict[tuple[int, int], RowState] = {}
        while waiting or self._waves:
            left = [candidate for candidate in candidates if candidate not in self._pruned]
            if waiting and left:
                del waiting[: self._admitted(waiting, left, rows)]
            elif waiting:
                progress(len(waiting))
                waiting = []
            if self._waves:
                self._start_reads()
                progress(self._read())
            if not waiting:
                self._shrink()
        return rows

    def _admitted(
        self, waiting: Sequence[int], candidates: Sequence[int], rows: dict[tuple[int, int], RowState]
    ) -> int:
        """Admits as many prompts as have room, if they are worth a prefill; returns their number."""
        taken = {slot for wave in self._waves for slot in wave.active_slots()}
        free = [slot for slot in range(self._batch.n_slots) if slot not in taken]
        count = min(len(waiting), len(free) // len(candidates))
        enough = min(len(waiting) * len(candidates), ADMITTED_FRACTION * self._batch.n_slots)
        if not count or (taken and count * len(candidates) < enough):
            return 0
        begun = self._batch.admit(waiting[:count], candidates, free)
        wave = _Wave([RowState(candidate) for candidate in begun.candidates], list(begun.slots), count)
        rows.update(zip(zip(begun.candidates, begun.prompts, strict=True), wave.rows, strict=True))
        self._waves.append(wave)
        self._reads.append(([(wave, wave.rows, list(range(len(wave.rows))))], begun.tokens))
        return count

    def _start_reads(self) -> None:
        while len(self._reads) < self._n_reads:
            unfinished = [wave for wave in self._waves if wave.n_chosen < self._max_new_tokens]
            if not unfinished:
                return
            # Reads of the newest rows end where their text is checked.
            count = CHECK_INTERVAL - unfinished[-1].n_chosen % CHECK_INTERVAL
            count = min(count, max(self._max_new_tokens - wave.n_chosen for wave in unfinished))
            tokens = self._batch.advance(count)
            self._reads.append(([(wave, wave.rows, wave.slots) for wave in unfinished], tokens))
            for wave in unfinished:
                wave.n_chosen += count

    def _read(self) -> int:
        """Waits for the oldest read, and appends its tokens to their rows; returns the number of prompts that are now
        done."""
        read, pending = self._reads.pop(0)
        for tokens in pending.tokens():
            for wave, rows, slots in read:
                if wave.n_read < self._max_new_tokens and any(row.active for row in rows):
                    wave.n_read += 1
                    append_tokens(rows, range(len(rows)), [tokens[slot] for slot in slots], self._end_tokens)
                    self._on_token(rows, wave.n_read, wave.n_read == self._max_new_tokens)
        ended = [wave for wave in self._waves if not any(row.active for row in wave.rows)]
        if any(wave.n_read < min(MIN_TOKENS_BEFORE_PRUNING, self._max_new_tokens) for wave in ended):
            # Rows that all ended before the first pruning check count for it as they are.
            self._on_token((), MIN_TOKENS_BEFORE_PRUNING, False)
        for row in (row for wave in self._waves for row in wave.rows):
            row.pruned |= row.active and row.candidate in self._pruned
        done = [
            wave
            for wave in self._waves
            if wave.n_read == self._max_new_tokens or not any(row.active for row in wave.rows)
        ]
        self._waves = [wave for wave in self._waves if wave not in done]
        return sum(wave.n_prompts for wave in done)

    def _shrink(self) -> None:
        active = [slot for wave in self._waves for slot in wave.active_slots()]
        moved = self._batch.shrink(active) if active else None
        if moved is None:
            return
        for wave in self._waves:
            kept = [(row, moved[slot]) for row, slot in zip(wave.rows, wave.slots, strict=True) if row.active]
            wave.rows, wave.slots = [row for row, _ in kept], [slot for _, slot in kept]
