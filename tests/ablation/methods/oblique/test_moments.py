"""Moments that are added up batch by batch are those of all vectors together."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from heretic.ablation.methods.oblique.moments import PositionMeans, SecondMoment


def batches(count: int, width: int = 6) -> list[Tensor]:
    """Outputs at three positions, the last of which every fourth prompt lacks."""
    generator = torch.Generator().manual_seed(0)
    found = [torch.randn(n, 3, width, generator=generator) for n in (1, 5, count - 6)]
    for batch in found:
        batch[::4, 2] = torch.nan
    return found


@pytest.mark.parametrize("count", [7, 400])
def test_the_second_moment_is_that_of_all_present_vectors(count: int) -> None:
    moment = SecondMoment()
    for batch in batches(count):
        moment.update(batch)
    together = torch.cat(batches(count)).flatten(0, 1)
    present = together[~together.isnan().any(-1)].double()
    factor = moment.factor()
    assert moment.count == len(present)
    assert_close(factor.mT @ factor, present.mT @ present)
    assert len(factor) <= 3 * 6 + 12, "many vectors are held as a small factor"


def test_means_are_taken_over_chosen_positions() -> None:
    means = PositionMeans()
    for batch in batches(40):
        means.update(batch)
    together = torch.cat(batches(40)).double()
    assert_close(means.mean(slice(0, 2)), together[:, :2].mean(dim=(0, 1)))
    assert_close(means.mean(slice(2, 3)), together[:, 2].nanmean(dim=0))


def test_16_bits_are_added_up_in_64() -> None:
    means = PositionMeans()
    for _ in range(1000):
        means.update(torch.full((1, 1, 2), 1.0 / 3, dtype=torch.bfloat16))
    assert_close(means.mean(slice(0, 1)), torch.full((2,), float(torch.tensor(1.0 / 3).bfloat16())).double())


@pytest.mark.parametrize("moment", [PositionMeans(), SecondMoment()])
def test_nothing_seen_is_an_error(moment: PositionMeans | SecondMoment) -> None:
    with pytest.raises(ValueError, match="give prompts"):
        moment.mean(slice(0, 1)) if isinstance(moment, PositionMeans) else moment.factor()
