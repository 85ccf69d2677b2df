"""Training targets: answers to keep and refusals to remove, as rows whose tokens can be scored."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from ..protocol import Response
from .rows import Row, ScoredRow

Each = TypeVar("Each")

PARTS_OF_TARGETS = ("good", "bad", "refusals", "remaining", "loops")


@dataclass(frozen=True, slots=True)
class Targets:
    """Answers to good prompts, answers to bad ones, and pieces of refusals whose tokens must become unlikely.

    `remaining` are those of `refusals` that the last point still gave: few compared with the baseline's own, and the
    only ones that still teach anything. `loops` are pieces that repeat what their response said before. `shown` is the
    share of responses with the behaviour, where an edited model gave them.
    """

    good: tuple[Row, ...]
    bad: tuple[Row, ...]
    refusals: tuple[ScoredRow, ...]
    remaining: tuple[ScoredRow, ...] = ()
    loops: tuple[ScoredRow, ...] = ()
    shown: float | None = None

    @property
    def answers(self) -> tuple[Row, ...]:
        """Rows whose probabilities stay near the baseline's."""
        return (*self.good, *self.bad)

    @property
    def pieces(self) -> tuple[Row, ...]:
        """Rows whose last tokens become unlikely."""
        return tuple(each.row for each in (*self.refusals, *self.loops))

    def with_more(self, other: "Targets") -> "Targets":
        """The union of both, without duplicates."""
        return Targets(
            tuple(dict.fromkeys((*self.good, *other.good))),
            tuple(dict.fromkeys((*self.bad, *other.bad))),
            tuple(dict.fromkeys((*self.refusals, *other.refusals))),
            other.refusals,
            tuple(dict.fromkeys((*self.loops, *other.loops))),
            other.shown,
        )


def baseline_targets(
    good: Sequence[Sequence[int]],
    good_answers: Sequence[Response],
    bad: Sequence[Sequence[int]],
    bad_answers: Sequence[Response],
    behaviour_end: Callable[[Response], int | None],
    piece: int,
) -> Targets:
    """The baseline's own answers and refusals; `good` and `bad` are the tokens of the prompts.

    `behaviour_end` returns the number of tokens after which a response shows the behaviour (its first marker ends
    there, say), or None where it doesn't.
    `piece` is the number of tokens of a refusal that are scored.
    """
    kept = tuple(row_of(prompt, answer) for prompt, answer in zip(good, good_answers, strict=True) if answer.tokens)
    return replace(response_targets(bad, bad_answers, behaviour_end, piece, first_too=True), good=kept, shown=None)


def response_targets(
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Response],
    behaviour_end: Callable[[Response], int | None],
    piece: int,
    first_too: bool = False,
    is_sound: Callable[[Response], bool] = lambda _: True,
) -> Targets:
    """Targets from responses to bad prompts. A refusal gives the piece that ends where the behaviour shows; other
    responses are answers to keep, if they are sound (a repetitive one is no example).

    With `first_too`, a refusal that shows later also gives its first `piece` tokens.
    """
    answers: list[Row] = []
    refusals: list[ScoredRow] = []
    loops: list[ScoredRow] = []
    shown = 0
    for prompt, response in zip(prompts, responses, strict=True):
        end = behaviour_end(response)
        shown += end is not None
        if end is None:
            sound = is_sound(response)
            answers += [row_of(prompt, response)] if response.tokens and sound else []
            loops += [] if sound else _loop(row_of(prompt, response), piece)
        elif response.tokens:
            refusals += _pieces(row_of(prompt, response), end, piece, first_too)
    share = shown / len(prompts) if prompts else None
    return Targets((), tuple(answers), tuple(refusals), loops=tuple(loops), shown=share)


def row_of(prompt: Sequence[int], response: Response) -> Row:
    return Row(tuple(prompt), tuple(response.tokens))


def _pieces(row: Row, end: int, piece: int, first_too: bool) -> list[ScoredRow]:
    last = min(len(row.answer), max(end, piece))
    found = [_piece(row, max(0, last - piece), last)]
    if first_too and last > piece:
        found.append(_piece(row, 0, piece))
    return found


def _loop(row: Row, piece: int) -> list[ScoredRow]:
    """The first `piece` tokens that repeat earlier ones of the same answer, if there are any."""
    seen: set[tuple[int, ...]] = set()
    for end in range(piece, len(row.answer) + 1):
        window = row.answer[end - piece : end]
        if window in seen:
            return [_piece(row, end - piece, end)]
        seen.add(window)
    return []


def _piece(row: Row, start: int, end: int) -> ScoredRow:
    return ScoredRow(Row(row.prompt, row.answer[:end]), tuple(range(start, end)))


def behaviour_end_of(
    shown: Callable[[str], bool], decode: Callable[[Sequence[Sequence[int]]], list[str]]
) -> Callable[[Response], int | None]:
    """A function that returns the number of tokens after which a response shows the behaviour. It bisects: a prefix
    that is longer than one with a marker holds that marker too."""

    def find(response: Response) -> int | None:
        if not shown(response.text):
            return None
        low, high = 0, len(response.tokens)
        while low + 1 < high:
            middle = (low + high) // 2
            low, high = (low, middle) if shown(decode([response.tokens[:middle]])[0]) else (middle, high)
        return high

    return find


def draw_refusals(targets: Targets, count: int, generator: torch.Generator) -> list[ScoredRow]:
    """`count` refusals, up to half of them from those that remain."""
    remaining = draw(targets.remaining, count // 2, generator)
    return remaining + draw(targets.refusals, count - len(remaining), generator)


def draw(rows: Sequence[Each], count: int, generator: torch.Generator) -> list[Each]:
    """`count` of the rows, or all of them, in random order."""
    return [rows[index] for index in torch.randperm(len(rows), generator=generator)[:count].tolist()]


def spread(row: Row, count: int, limit: int, generator: torch.Generator) -> ScoredRow:
    """The row with its first token and `count - 1` random others among its first `limit` scored."""
    room = min(len(row.answer), limit)
    later = 1 + torch.randperm(max(0, room - 1), generator=generator)[: count - 1]
    return ScoredRow(row, (0, *sorted(later.tolist())))


def as_tensors(targets: Targets) -> dict[str, Tensor]:
    """The targets as tensors of integers, for a file."""
    plain = {"good": targets.good, "bad": targets.bad}
    scored = {key: tuple(ScoredRow(row, ()) for row in rows) for key, rows in plain.items()}
    scored |= {"refusals": targets.refusals, "remaining": targets.remaining, "loops": targets.loops}
    return {key: _table(rows) for key, rows in scored.items()}


def from_tensors(tables: Mapping[str, Tensor]) -> Targets:
    """The targets that `as_tensors` wrote."""
    good, bad = (tuple(each.row for each in _rows(tables[key])) for key in PARTS_OF_TARGETS[:2])
    refusals, remaining, loops = (_rows(tables[key]) for key in PARTS_OF_TARGETS[2:])
    return Targets(good, bad, refusals, remaining, loops)


def _table(rows: Sequence[ScoredRow]) -> Tensor:
    """(row, 4 + tokens): the numbers of prompt tokens and of all tokens, the first scored place and how many follow it
    without a gap, and the tokens."""
    longest = max((len(each.row) for each in rows), default=0)
    table = torch.zeros(len(rows), 4 + longest, dtype=torch.int32)
    for number, each in enumerate(rows):
        places = [each.places[0] if each.places else 0, len(each.places)]
        line = [len(each.row.prompt), len(each.row), *places, *each.row.prompt, *each.row.answer]
        table[number, : len(line)] = torch.tensor(line, dtype=torch.int32)
    return table


def _rows(table: Tensor) -> tuple[ScoredRow, ...]:
    found = []
    for line in table.tolist():
        prompt, total, first, scored = line[:4]
        row = Row(tuple(line[4 : 4 + prompt]), tuple(line[4 + prompt : 4 + total]))
        found.append(ScoredRow(row, tuple(range(first, first + scored))))
    return tuple(found)
