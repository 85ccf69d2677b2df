"""A short look puts candidates in an order in which the ones measured first rule the others out."""

import random

from heretic.evaluation.pruning.preview import Preview, most_promising_first


def test_what_dominates_comes_before_what_it_dominates() -> None:
    draw = random.Random(0)
    looks = [Preview(round(draw.random(), 1), draw.randrange(6)) for _ in range(60)]
    order = most_promising_first(looks)
    assert sorted(order) == list(range(60))
    for place, later in enumerate(order):
        for earlier in order[:place]:
            a, b = looks[later], looks[earlier]
            better = a.kl_divergence <= b.kl_divergence and a.refusals <= b.refusals and a != b
            assert not better, f"{b} was put before {a}"
