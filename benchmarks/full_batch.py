"""How full a GPU's batch stays while a group of candidates is decoded: `python benchmarks/full_batch.py`.

A simulation without a GPU: the row scheduler of the engine on rows of known lengths, with the time of a recorded step
of Llama-3.1-8B's shape on an H100 (16 ms for 100 rows, 48 ms for 800: docs/speed.md). Prints milliseconds a candidate,
for eight candidates of 100 prompts at a time, with different batch sizes to which a draining batch may shrink, and if
the candidates of the next groups joined the running batch.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from heretic.engine.row_scheduler import Admitted, RowScheduler

FIXED, A_ROW = 11.7, 0.0457
"""Milliseconds of a step: independent of its rows, and for each row."""
CANDIDATES, PROMPTS, LENGTH, GROUPS = 8, 100, 100, 3
END, TOKEN = 0, 1
SIZES = {"1/2, 1/8": (0.5, 0.125), "1/2, 1/4, 1/8": (0.5, 0.25, 0.125), "3/4, 1/2, 1/4, 1/8": (0.75, 0.5, 0.25, 0.125)}

SMOLLM2 = (
    *(4, 5, 6, 7, 8, 9, 9, 10, 10, 10, 10, 10, 12, 12, 13, 13, 14, 15, 16, 16, 17, 20, 26, 29, 30, 30, 32, 32, 33, 36),
    *(39, 40, 41, 41, 42, 45, 46, 48, 48, 48, 53, 56, 56, 64, 65, 67, 70, 76, 81, 82, 83, 86),
)
"""Lengths of an edited SmolLM2-135M-Instruct's responses to the 100 prompts of `disclaimer` (those below 100 tokens),
ended where they are decided; the first candidate of benchmarks/trial.py."""

Lengths = Callable[[random.Random], list[int]]


@dataclass(frozen=True, slots=True)
class Arrived:
    values: list[list[int]]

    def tokens(self) -> list[list[int]]:
        return self.values


@dataclass(slots=True)
class SimulatedBatch:
    """Rows of known lengths, by candidate and prompt; counts the milliseconds of its steps."""

    lengths: dict[tuple[int, int], int]
    slots: int
    sizes: Sequence[int]
    milliseconds: float = 0.0
    rows: dict[int, tuple[tuple[int, int], int]] = field(default_factory=dict)

    @property
    def n_slots(self) -> int:
        return self.slots

    def admit(self, prompts: Sequence[int], candidates: Sequence[int], free: Sequence[int]) -> Admitted:
        rows = [(candidate, prompt) for candidate in candidates for prompt in prompts]
        taken = list(free)[: len(rows)]
        self.rows |= {slot: (row, 1) for slot, row in zip(taken, rows, strict=True)}
        first = [[self._token(row, 1) for row in rows]]
        return Admitted([prompt for _, prompt in rows], [candidate for candidate, _ in rows], taken, Arrived(first))

    def advance(self, n_tokens: int) -> Arrived:
        found = []
        for _ in range(n_tokens):
            self.milliseconds += FIXED + A_ROW * self.slots
            self.rows = {slot: (row, count + 1) for slot, (row, count) in self.rows.items()}
            step = [TOKEN] * self.slots
            for slot, (row, count) in self.rows.items():
                step[slot] = self._token(row, count)
            found.append(step)
        return Arrived(found)

    def shrink(self, active: Sequence[int]) -> dict[int, int] | None:
        size = min((size for size in self.sizes if size >= len(active)), default=self.slots)
        if size >= self.slots:
            return None
        moved = {slot: number for number, slot in enumerate(sorted(active))}
        self.rows, self.slots = {new: self.rows[slot] for slot, new in moved.items()}, size
        return moved

    def _token(self, row: tuple[int, int], count: int) -> int:
        return END if count >= self.lengths[row] else TOKEN


def milliseconds(groups: Sequence[list[list[int]]], sizes: Sequence[float]) -> float:
    """Milliseconds a candidate of groups, by candidate and prompt, one after the other."""
    total, rows = 0.0, CANDIDATES * PROMPTS
    for group in groups:
        lengths = {(c, p): length for c, prompts in enumerate(group) for p, length in enumerate(prompts)}
        batch = SimulatedBatch(lengths, rows, [round(rows * size) for size in sizes])
        scheduler = RowScheduler(batch, {END}, LENGTH, lambda *_: None, n_reads=2)
        scheduler.run(range(len(group[0])), range(CANDIDATES), lambda _: None)
        total += batch.milliseconds
    return total / GROUPS / CANDIDATES


def joined(groups: Sequence[list[list[int]]]) -> list[list[int]]:
    """All groups as one, in which later prompts wait for free slots."""
    return [[length for group in groups for length in group[c]] for c in range(CANDIDATES)]


def of_smollm2(draw: random.Random) -> list[int]:
    return draw.sample([*SMOLLM2, *[LENGTH] * (PROMPTS - len(SMOLLM2))], PROMPTS)


def ending_early(share: float) -> Lengths:
    return lambda draw: [draw.randint(4, 30) if draw.random() < share else LENGTH for _ in range(PROMPTS)]


def main() -> None:
    kinds = {"SmolLM2's lengths": of_smollm2, "none ends early": ending_early(0.0)}
    kinds |= {f"{share:.0%} end within 30 tokens": ending_early(share) for share in (0.5, 0.8)}
    print(f"| | {' | '.join(SIZES)} | and joined by the next |\n| --- |{' --- |' * (len(SIZES) + 1)}")
    for name, lengths in kinds.items():
        draw = random.Random(0)
        groups = [[lengths(draw) for _ in range(CANDIDATES)] for _ in range(GROUPS)]
        *_, finest = SIZES.values()
        times = [*(milliseconds(groups, sizes) for sizes in SIZES.values()), milliseconds([joined(groups)], finest)]
        print(f"| {name} | {' | '.join(f'{each:.0f}' for each in times)} |", flush=True)


if __name__ == "__main__":
    main()
