"""How many candidates learned paths give."""

import pytest

from heretic.config import Settings
from heretic.engine.learning.path import LearningSettings
from heretic.session.learning import wanted_candidates

DEFAULT = Settings().n_trials


def test_one_path_unless_another_number_was_set() -> None:
    assert wanted_candidates("learned", DEFAULT) == LearningSettings().candidates < DEFAULT
    assert [wanted_candidates("learned", count) for count in (3, 40)] == [3, 40]
    assert wanted_candidates("kernel", DEFAULT) == DEFAULT


@pytest.mark.parametrize("warm_up", [0, 2])
def test_points_on_the_way_are_not_scaled_either(warm_up: int) -> None:
    settings = LearningSettings(lambdas=(4.0, 2.0, 1.0), warm_up=warm_up, scalings=((-1, 0.5), (-2, 0.5)))
    assert settings.scaled_points == [(2, 0.5), (1, 0.5)][: 2 if warm_up == 0 else 1]
    assert settings.candidates == 3 - warm_up + len(settings.scaled_points)
