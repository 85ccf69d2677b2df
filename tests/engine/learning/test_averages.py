"""The mean of a path's last tensors."""

import pytest
import torch
from torch import Tensor

from heretic.engine.learning.averages import TailAverage

POINTS = ((1.0, 2.0), (3.0,), (5.0, 6.0, 7.0))
"""Strengths after each step, by point."""


def tensors(strength: float) -> dict[str, Tensor]:
    angle = torch.tensor(strength)
    return {"directions": torch.stack([angle.cos(), angle.sin()])[None, :, None], "strengths": torch.tensor([strength])}


def after(points: int, interrupted: bool = False) -> TailAverage:
    average = TailAverage(points)
    for strengths in POINTS:
        average.begin()
        if interrupted:
            kept, average = average.state(), TailAverage(points)
            average.load(kept)
        for strength in strengths:
            average.add(tensors(strength))
    return average


@pytest.mark.parametrize("interrupted", [False, True])
@pytest.mark.parametrize(("points", "mean"), [(1, 6.0), (2, 5.25), (3, 4.0), (9, 4.0), (0, -1.0)])
def test_the_mean_is_over_the_steps_of_the_last_points(points: int, mean: float, interrupted: bool) -> None:
    found = after(points, interrupted).mean(tensors(-1.0))
    assert found["strengths"].item() == pytest.approx(mean)
    assert torch.allclose(found["directions"].norm(dim=1), torch.ones(()))


def test_directions_are_averaged_before_they_get_their_length() -> None:
    average = TailAverage(1)
    average.begin()
    for angle in (0.2, 0.6):
        average.add(tensors(angle))
    assert torch.allclose(average.mean(tensors(0.0))["directions"], tensors(0.4)["directions"])


def test_before_the_first_step_it_is_the_tensors_themselves() -> None:
    average = TailAverage(2)
    average.begin()
    given = tensors(0.5)
    found = average.mean(given)
    assert torch.equal(found["strengths"], given["strengths"])
    assert found["strengths"] is not given["strengths"]
