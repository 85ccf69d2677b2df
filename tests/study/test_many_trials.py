"""Beyond a thousand trials the sampler does less work for a candidate; up to there it is Optuna's own."""

from typing import Any

import optuna
import pytest

from heretic.study import many_trials
from heretic.study.many_trials import ManyTrialsTPE
from tests.support.study_toys import SPACE

OPTIONS = {"seed": 3, "n_startup_trials": 8, "multivariate": False, "constant_liar": True}


def distances(sampler: Any, count: int, open_trials: int = 1) -> list[float]:
    """Two objectives of `count` trials, as the sum of the distances from their optima; some trials are open."""
    study = optuna.create_study(sampler=sampler, directions=["minimize"] * 2)
    found, waiting = [], []
    for _ in range(count):
        trial = study.ask()
        waiting.append((trial, SPACE.suggest(trial)))
        if len(waiting) >= open_trials:
            trial, parameters = waiting.pop(0)
            kernels = list(parameters.kernels.values())
            one = sum(abs(each.max_weight - 1.4) + abs(each.max_weight_position - 9) / 5 for each in kernels)
            two = sum(abs(each.max_weight - 1.3) + abs(each.max_weight_position - 8) / 5 for each in kernels)
            study.tell(trial, (one, two))
            found.append(one + two)
    return found


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes with which 80 trials are many."""
    for name, value in (("MANY", 30), ("OTHERS", 20), ("BEST", 6), ("OPEN", 4), ("ASKS", 4)):
        monkeypatch.setattr(many_trials, name, value)


def test_up_to_many_trials_candidates_are_optunas() -> None:
    plain: Any = optuna.samplers.TPESampler
    assert distances(ManyTrialsTPE(**OPTIONS), 30, 4) == distances(plain(**OPTIONS), 30, 4)


@pytest.mark.parametrize("multivariate", [False, True])
def test_beyond_them_candidates_are_as_good_and_a_seed_gives_the_same(few: None, multivariate: bool) -> None:
    options = OPTIONS | {"multivariate": multivariate}
    sampler = ManyTrialsTPE(**options)
    found = distances(sampler, 90, 6)
    assert len(sampler._best) == 6
    assert found == distances(ManyTrialsTPE(**options), 90, 6)
    random = distances(optuna.samplers.RandomSampler(seed=3), 90, 6)
    assert sum(found[-30:]) < 0.75 * sum(random[-30:])


def test_good_trials_of_the_beginning_stay_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of few finished trials, a tenth counts as good; of many, these are among the `BEST`."""
    monkeypatch.setattr(many_trials, "BEST", 10)
    study = optuna.create_study(directions=["minimize"] * 2)
    sampler = ManyTrialsTPE(seed=0)

    def good(*values: tuple[float, float]) -> list[int]:
        study.add_trials([optuna.trial.create_trial(values=each) for each in values])
        sampler._look(study, study.trials[0])
        return [trial.number for trial in sampler._sides[0]]

    assert len(good(*((n, 9.0 - n) for n in range(10)), *((n, 99.0) for n in range(10, 20)))) == 2
    assert good(*((n, 99.0) for n in range(20, 100))) == list(range(10))
