"""Every suggestion lies in the ranges of SPEC 5, and the space is the same for all trials."""

import optuna
import pytest

from heretic.study.space import SearchSpace

COMPONENTS = ("attn.o_proj", "mlp.down_proj")
LAST_LAYERS = (1, 2, 3, 11, 31)


def asked(last_layer: int, count: int, seed: int = 0) -> list[optuna.Trial]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return [study.ask() for _ in range(count)]


@pytest.mark.parametrize("last_layer", LAST_LAYERS)
def test_every_suggestion_lies_in_the_ranges_of_the_specification(last_layer: int) -> None:
    space = SearchSpace(COMPONENTS, last_layer)
    for trial in asked(last_layer, 100):
        parameters = space.suggest(trial)
        assert parameters.direction_scope in ("global", "per layer")
        assert 0.4 * last_layer <= parameters.direction_index <= 0.9 * last_layer
        assert tuple(parameters.kernels) == COMPONENTS
        for kernel in parameters.kernels.values():
            assert 0.8 <= kernel.max_weight <= 1.5
            assert 0.6 * last_layer <= kernel.max_weight_position <= last_layer
            assert 0 <= kernel.min_weight <= kernel.max_weight
            assert 1 <= kernel.min_weight_distance <= max(1, 0.6 * last_layer) + 1e-5


def test_suggestions_reach_both_ends_of_their_ranges() -> None:
    suggested = [SearchSpace(COMPONENTS, 30).suggest(trial) for trial in asked(30, 300)]
    kernels = [parameters.kernels["attn.o_proj"] for parameters in suggested]
    for values, low, high in (
        ([parameters.direction_index for parameters in suggested], 12.0, 27.0),
        ([kernel.max_weight for kernel in kernels], 0.8, 1.5),
        ([kernel.max_weight_position for kernel in kernels], 18.0, 30.0),
        ([kernel.min_weight / kernel.max_weight for kernel in kernels], 0.0, 1.0),
        ([kernel.min_weight_distance for kernel in kernels], 1.0, 18.0),
    ):
        margin = 0.03 * (high - low)
        assert min(values) < low + margin
        assert max(values) > high - margin
    assert {parameters.direction_scope for parameters in suggested} == {"global", "per layer"}


@pytest.mark.parametrize("last_layer", LAST_LAYERS)
def test_the_space_is_the_same_for_all_trials(last_layer: int) -> None:
    space = SearchSpace(COMPONENTS, last_layer)
    trials = asked(last_layer, 30)
    scopes = {space.suggest(trial).direction_scope for trial in trials}
    assert scopes == {"global", "per layer"}  # the two could differ in what they need
    assert all(trial.distributions == trials[0].distributions for trial in trials)


def test_components_are_sampled_apart() -> None:
    parameters = SearchSpace(COMPONENTS, 11).suggest(asked(11, 1)[0])
    first, second = (kernel.model_dump() for kernel in parameters.kernels.values())
    assert not first.items() & second.items()


def test_descriptions_agree_only_if_the_spaces_do() -> None:
    space = SearchSpace(COMPONENTS, 11)
    assert space.describe() == SearchSpace(COMPONENTS, 11).describe()
    assert space.describe() != SearchSpace(COMPONENTS, 12).describe()
    assert space.describe() != SearchSpace(COMPONENTS[:1], 11).describe()
