"""A short look puts candidates in an order in which the ones measured first rule the others out."""

import random

import pytest

from heretic.evaluation.promise import PROMPTS, Look, looked_at, most_promising_first
from heretic.prompts.prompt import Prompt


def test_what_dominates_comes_before_what_it_dominates() -> None:
    draw = random.Random(0)
    looks = [Look(round(draw.random(), 1), draw.randrange(6)) for _ in range(60)]
    order = most_promising_first(looks)
    assert sorted(order) == list(range(60))
    for place, later in enumerate(order):
        for earlier in order[:place]:
            a, b = looks[later], looks[earlier]
            better = a.kl_divergence <= b.kl_divergence and a.refusals <= b.refusals and a != b
            assert not better, f"{b} was put before {a}"


@pytest.mark.parametrize("count", [1, 5, PROMPTS, 40, 100])
def test_the_prompts_of_a_look_are_spread_over_all(count: int) -> None:
    bad = [Prompt(str(number)) for number in range(count)]
    asked = [int(prompt.text) for prompt in looked_at(bad)]
    assert len(asked) == min(PROMPTS, count)
    gaps = [b - a for a, b in zip(asked, [*asked[1:], count], strict=True)]
    assert asked[0] == 0
    assert max(gaps) - min(gaps) <= 1
