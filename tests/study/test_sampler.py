"""The named samplers run without a warning, and TPE does better than random search."""

import statistics

import optuna
import pytest

from heretic.ablation.parameters import AblationParameters
from heretic.study.sampler import SamplerName, SamplerOptions, make_sampler
from tests.support.study_toys import SPACE

NAMES: tuple[SamplerName, ...] = ("tpe", "tpe-multivariate", "random")
SEEDS = range(4)


def objectives(parameters: AblationParameters) -> tuple[float, float]:
    """Two distances from a best candidate, 0 to 1: the objectives agree on the direction, not on the kernels."""
    kernels = parameters.kernels.values()
    off = abs(parameters.direction_index - 7) / 5.5
    strong = sum(abs(k.max_weight - 1.4) / 0.7 + abs(k.max_weight_position - 10) / 4.4 for k in kernels) / 4
    gentle = sum(abs(k.max_weight - 1.2) / 0.7 + abs(k.max_weight_position - 9) / 4.4 for k in kernels) / 4
    flat = sum(k.min_weight / 1.5 for k in kernels) / 2
    return min(1.0, (strong + off) / 1.5), min(1.0, (gentle + flat + off) / 2)


def points(name: SamplerName, seed: int, count: int, startup: int = 10) -> list[tuple[float, float]]:
    """The metrics of `count` trials, in order."""
    study = optuna.create_study(sampler=make_sampler(SamplerOptions(name, seed, startup)), directions=["minimize"] * 2)
    found = []
    for _ in range(count):
        trial = study.ask()
        found.append(objectives(SPACE.suggest(trial)))
        study.tell(trial, found[-1])
    return found


def hypervolume(found: list[tuple[float, float]]) -> float:
    """Area of the unit square that the points dominate."""
    area, best = 0.0, 1.0
    for first, second in sorted(found):
        if second < best:
            area += (1 - first) * (best - second)
            best = second
    return area


def test_hypervolume_of_known_points() -> None:
    assert hypervolume([(0.5, 0.5)]) == 0.25
    assert hypervolume([(0.0, 0.5), (0.5, 0.0), (0.6, 0.6)]) == 0.75


@pytest.mark.parametrize("name", NAMES)
def test_every_sampler_runs_without_a_warning(name: SamplerName) -> None:
    found = points(name, 0, 30)
    assert len(set(found)) == 30
    assert found == points(name, 0, 30)
    assert found != points(name, 1, 30)


@pytest.mark.parametrize("name", ["tpe", "tpe-multivariate"])
def test_tpe_leaves_less_to_gain_than_random_search(name: SamplerName) -> None:
    left, left_by_chance = (
        statistics.mean(1 - hypervolume(points(each, seed, 60)) for seed in SEEDS) for each in (name, "random")
    )
    assert left < 0.85 * left_by_chance


def test_running_trials_count_for_the_next_candidate() -> None:
    """The purpose of the constant liar: without it, candidates that are requested together would cluster."""
    drawn = []
    for running in (0, 6):
        study = optuna.create_study(sampler=make_sampler(SamplerOptions("random", 1, 4)), directions=["minimize"] * 2)
        for number in range(8):
            trial = study.ask()
            SPACE.suggest(trial)
            study.tell(trial, [float(number), -float(number)])
        study.sampler = make_sampler(SamplerOptions("tpe", 2, 4))
        for _ in range(running):
            SPACE.suggest(study.ask())
        study.sampler = make_sampler(SamplerOptions("tpe", 3, 4))  # draws the same numbers in both studies
        drawn.append(SPACE.suggest(study.ask()))
    assert drawn[0] != drawn[1]


def test_a_resumed_study_draws_from_a_seed_of_its_own() -> None:
    options = SamplerOptions("tpe", seed=7)
    assert options.resumed(0) == options
    for seed in (0, 7, 2**32 - 1):
        seeds = {SamplerOptions("tpe", seed).resumed(count).seed for count in range(500)}
        assert len(seeds) == 500
        assert 0 <= min(seeds) <= max(seeds) < 2**32
