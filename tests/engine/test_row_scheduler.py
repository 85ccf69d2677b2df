"""Waiting rows take the slots of finished ones, and each row gets the tokens that it gets alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import torch

from heretic.engine.early_stop import CHECK_INTERVAL, EarlyStopper, RowState
from heretic.engine.row_scheduler import Admitted, RowScheduler

END = 0
LENGTH = 40
Row = tuple[int, int]


@dataclass
class Arrived:
    values: list[list[int]]

    def tokens(self) -> list[list[int]]:
        return self.values


@dataclass
class ToyBatch:
    """A batch whose rows have known responses, by candidate and prompt; each slot counts its own tokens."""

    responses: dict[Row, list[int]]
    slots: int
    sizes: tuple[int, ...] = ()
    rows: dict[int, tuple[Row, int]] = field(default_factory=dict)
    admitted: list[list[Row]] = field(default_factory=list)
    busy: list[int] = field(default_factory=list)

    @property
    def n_slots(self) -> int:
        return self.slots

    def admit(self, prompts: Sequence[int], candidates: Sequence[int], free: Sequence[int]) -> Admitted:
        rows = [(candidate, prompt) for candidate in candidates for prompt in prompts]
        taken = list(free)[: len(rows)]
        assert len(taken) == len(rows)
        for slot, row in zip(taken, rows, strict=True):
            self.rows[slot] = row, 1
        self.admitted.append(rows)
        first = [[self._token(row, 0) for row in rows]]
        return Admitted([row[1] for row in rows], [row[0] for row in rows], taken, Arrived(first))

    def advance(self, n_tokens: int) -> Arrived:
        assert n_tokens <= CHECK_INTERVAL
        found = []
        for _ in range(n_tokens):
            self.busy.append(self.slots)
            step = [-1] * self.slots
            for slot, (row, count) in self.rows.items():
                step[slot] = self._token(row, count)
                self.rows[slot] = row, count + 1
            found.append(step)
        return Arrived(found)

    def shrink(self, active: Sequence[int]) -> dict[int, int] | None:
        size = min((size for size in self.sizes if size >= len(active)), default=self.slots)
        if size >= self.slots:
            return None
        moved = {slot: number for number, slot in enumerate(sorted(active))}
        self.rows = {moved[slot]: self.rows[slot] for slot in moved}
        self.slots = size
        return moved

    def _token(self, row: Row, number: int) -> int:
        response = self.responses[row]
        # A row that has ended runs on.
        return response[number] if number < len(response) else 99


def random_responses(n_candidates: int, n_prompts: int, seed: int) -> dict[Row, list[int]]:
    """Responses of 1 to LENGTH tokens, none of which is shared; shorter ones end with END."""
    draw = torch.Generator().manual_seed(seed)
    found = {}
    for number, row in enumerate((c, p) for c in range(n_candidates) for p in range(n_prompts)):
        length = int(torch.randint(1, LENGTH + 10, (), generator=draw))
        tokens = [100 * (number + 1) + slot for slot in range(min(length, LENGTH))]
        found[row] = tokens if length > LENGTH else [*tokens[:-1], END]
    return found


def nothing(rows: Sequence[RowState], step: int, last: bool) -> None:
    """Ends no row."""


@pytest.mark.parametrize("n_reads", [1, 2, 3])
@pytest.mark.parametrize("slots", [4, 9, 16, 80])
def test_every_row_gets_its_own_response(slots: int, n_reads: int) -> None:
    """Whatever the number of slots, and in whichever order rows end."""
    for seed in range(3):
        responses = random_responses(4, 20, seed)
        batch = ToyBatch(responses, slots, sizes=(slots // 2, slots // 4))
        done: list[int] = []
        scheduler = RowScheduler(batch, {END}, LENGTH, nothing, n_reads=n_reads)
        rows = scheduler.run(range(20), range(4), done.append)
        expected = {row: [token for token in tokens if token != END] for row, tokens in responses.items()}
        assert {row: state.tokens for row, state in rows.items()} == expected
        assert sum(done) == 20


def test_waiting_rows_keep_the_batch_full() -> None:
    """Places of rows that end are taken by others: fewer steps than one batch after the other, each as long as its
    longest row."""
    responses = random_responses(2, 60, seed=3)
    batch = ToyBatch(responses, 16)
    RowScheduler(batch, {END}, LENGTH, nothing).run(range(60), range(2), lambda _: None)
    one_after_the_other = sum(
        max(len(responses[c, p]) for c in range(2) for p in range(start, min(60, start + 8))) - 1
        for start in range(0, 60, 8)
    )
    tokens = sum(len(response) for response in responses.values())
    assert len(batch.admitted) > 8
    # At most a quarter of the slots is idle, with the last rows; one after the other it is more than 40 %.
    assert 16 * len(batch.busy) < tokens / 0.75 < 16 * one_after_the_other


def test_a_pruned_candidate_gives_its_places_to_others() -> None:
    """Its rows end, its waiting rows are never admitted, and other candidates' rows are unaffected."""
    responses = {(c, p): [100 + c] * LENGTH for c in range(2) for p in range(12)}
    batch = ToyBatch(responses, 8)
    stopper = EarlyStopper(lambda rows: [str(row[-1]) for row in rows], lambda text: text == "100", prune_at=[3, None])
    rows = RowScheduler(batch, {END}, LENGTH, stopper, stopper.pruned).run(range(12), range(2), lambda _: None)
    assert stopper.pruned == {0}
    assert sorted(prompt for candidate, prompt in rows if candidate == 1) == list(range(12))
    assert all(rows[1, prompt].tokens == responses[1, prompt] for prompt in range(12))
    first = [row for row in rows if row[0] == 0]
    assert 3 <= len(first) < 12 and all(rows[row].settled or rows[row].pruned for row in first)
    # The last rows are the other candidate's alone.
    assert {candidate for candidate, _ in batch.admitted[-1]} == {1}


def test_a_pruned_candidate_ends_in_rows_that_began_later() -> None:
    """At once, and not only when they have as many tokens as the rows by which it was pruned."""
    responses = {(0, p): [100 if p == 0 else 50] * LENGTH for p in range(8)} | {(1, p): [7, END] for p in range(8)}
    stopper = EarlyStopper(lambda rows: [str(row[-1]) for row in rows], lambda text: text == "100", prune_at=[1, None])
    rows = RowScheduler(ToyBatch(responses, 8), {END}, LENGTH, stopper, stopper.pruned).run(
        range(8), range(2), lambda _: None
    )
    assert len(rows[0, 1].tokens) == 12 and rows[0, 1].pruned
    assert 0 < len(rows[0, 4].tokens) < 12 and rows[0, 4].pruned
    assert all(rows[1, prompt].tokens == [7] for prompt in range(8))


def test_all_candidates_pruned_end_the_run() -> None:
    responses = {(0, p): [7] * LENGTH for p in range(30)}
    batch = ToyBatch(responses, 5)
    stopper = EarlyStopper(lambda rows: [""] * len(rows), lambda text: True, prune_at=[2])
    done: list[int] = []
    rows = RowScheduler(batch, {END}, LENGTH, stopper, stopper.pruned).run(range(30), range(1), done.append)
    assert len(rows) < 30 and sum(done) == 30
    # Every row is settled by its fourth token: none is waited for until the twelfth.
    assert len(batch.admitted) == 1
