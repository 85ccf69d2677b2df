"""The distribution of the token at which refusals are detected."""

import pytest

from heretic.evaluation.pruning.refusal_onset import RefusalOnset


def test_the_estimate_makes_up_for_refusals_that_are_not_known_yet() -> None:
    onset = RefusalOnset()
    assert onset.share(10) == 1.0
    assert onset.learn([4, 8, 8, 60]).share(12) == pytest.approx(4 / 5)
    assert onset.share(12) == 1.0, "learning leaves the distribution that was sent with a candidate as it was"
