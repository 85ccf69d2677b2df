"""Previews of candidates: low-fidelity evaluations that decide in which order candidates are evaluated.

A candidate can be pruned only by those that were evaluated before it. Of several candidates, those should come first
that will dominate the others. A preview decides nothing but this order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PROMPTS, TOKENS = 12, 8
"""Bad prompts of a preview, and tokens of their responses: enough for an order, at a fraction of a trial's cost."""


@dataclass(frozen=True, slots=True)
class Preview:
    """Costs of a candidate by metric (less is better): `known` ones are final, `rough` ones are estimates."""

    known: Mapping[str, float]
    rough: Mapping[str, float]

    @property
    def costs(self) -> tuple[float, ...]:
        return (*self.known.values(), *self.rough.values())


def most_promising_first(previews: Sequence[Preview]) -> list[int]:
    """The places of `previews`, sorted by how many others seem to dominate each; of equal ones, by rough costs."""

    def dominating(of: Preview) -> int:
        return sum(all(a <= b for a, b in zip(each.costs, of.costs, strict=True)) for each in previews)

    def key(place: int) -> tuple[int, tuple[float, ...], int]:
        return dominating(previews[place]), tuple(previews[place].rough.values()), place

    return sorted(range(len(previews)), key=key)
