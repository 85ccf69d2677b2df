"""Previews give an order in which candidates that dominate others come before them."""

import random

from heretic.evaluation.pruning.preview import Preview, most_promising_first


def test_a_dominating_preview_comes_before_those_it_dominates() -> None:
    draw = random.Random(0)
    previews = [Preview({"a": round(draw.random(), 1)}, {"b": draw.randrange(6)}) for _ in range(60)]
    order = most_promising_first(previews)
    assert sorted(order) == list(range(60))
    for place, later in enumerate(order):
        for earlier in order[:place]:
            a, b = previews[later].costs, previews[earlier].costs
            better = all(x <= y for x, y in zip(a, b, strict=True)) and a != b
            assert not better, f"{b} was put before {a}"
