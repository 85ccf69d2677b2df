"""What a candidate promises before it is measured: in which order candidates are best measured.

Whether a candidate can enter the front hangs on those that were measured before it. Where several are known at once,
those measured first should be the ones that rule the others out: what they promise decides nothing but the order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

PROMPTS, TOKENS = 12, 8
"""Bad prompts of a look, and tokens of their responses: enough for an order, at a fraction of what a trial costs."""


@dataclass(frozen=True, slots=True)
class Preview:
    """The KL divergence of a candidate (nats; what a full measurement gives too), and how many of a few bad prompts it
    declines within a few tokens."""

    kl_divergence: float
    refusals: int


def most_promising_first(looks: Sequence[Preview]) -> list[int]:
    """The places of `looks`: those first that the fewest others seem to dominate."""

    def ahead(of: Preview) -> int:
        return sum(look.kl_divergence <= of.kl_divergence and look.refusals <= of.refusals for look in looks)

    return sorted(range(len(looks)), key=lambda place: (ahead(looks[place]), looks[place].refusals, place))
