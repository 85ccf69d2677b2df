"""Every suggestion lies in its range, and the space is the same for all trials."""

import optuna
import pytest

from heretic.ablation.methods.kernel.parameters import DirectionScope, KernelParameters
from heretic.ablation.methods.kernel.space import KernelSpace
from heretic.ablation.parameters import WeightKernel

COMPONENTS = ("attn.o_proj", "mlp.down_proj")
LAST_LAYERS = (1, 2, 3, 11, 31)


def asked(last_layer: int, count: int, seed: int = 0) -> list[optuna.Trial]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return [study.ask() for _ in range(count)]


@pytest.mark.parametrize("last_layer", LAST_LAYERS)
def test_every_suggestion_lies_in_the_ranges_of_the_specification(last_layer: int) -> None:
    space = KernelSpace(COMPONENTS, last_layer)
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
    suggested = [KernelSpace(COMPONENTS, 30).suggest(trial) for trial in asked(30, 300)]
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
    space = KernelSpace(COMPONENTS, last_layer)
    trials = asked(last_layer, 30)
    scopes = {space.suggest(trial).direction_scope for trial in trials}
    assert scopes == {"global", "per layer"}  # the two could differ in what they need
    assert all(trial.distributions == trials[0].distributions for trial in trials)


def test_components_are_sampled_apart() -> None:
    parameters = KernelSpace(COMPONENTS, 11).suggest(asked(11, 1)[0])
    first, second = (kernel.model_dump() for kernel in parameters.kernels.values())
    assert not first.items() & second.items()


def test_descriptions_agree_only_if_the_spaces_do() -> None:
    space = KernelSpace(COMPONENTS, 11)
    assert space.describe() == KernelSpace(COMPONENTS, 11).describe()
    assert space.describe() != KernelSpace(COMPONENTS, 12).describe()
    assert space.describe() != KernelSpace(COMPONENTS[:1], 11).describe()


def test_what_is_encoded_is_what_would_be_drawn() -> None:
    space = KernelSpace(COMPONENTS, 30)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(20):
        drawn = study.ask()
        parameters = space.suggest(drawn)
        assert space.encode(parameters) == pytest.approx(drawn.params)


def test_what_lies_outside_is_moved_in() -> None:
    kernel = WeightKernel(max_weight=3.0, max_weight_position=1.0, min_weight=1.5, min_weight_distance=90.0)
    outside = KernelParameters(
        direction_scope="global", direction_index=29.5, kernels=dict.fromkeys(COMPONENTS, kernel)
    )
    encoded = KernelSpace(COMPONENTS, 30).encode(outside)
    assert encoded["direction_index"] == pytest.approx(27)
    assert encoded["mlp.down_proj.max_weight"] == 1.5
    assert encoded["mlp.down_proj.max_weight_position"] == pytest.approx(18)
    assert encoded["mlp.down_proj.min_weight"] == 0.5
    assert encoded["mlp.down_proj.min_weight_distance"] == pytest.approx(18)


@pytest.mark.parametrize("last_layer", LAST_LAYERS)
def test_settings_of_the_literature_edit_every_layer_at_full_strength(last_layer: int) -> None:
    settings = KernelSpace(COMPONENTS, last_layer).literature()
    assert [each.direction_scope for each in settings] == ["per layer"] + ["global"] * (len(settings) - 1)
    for each in settings:
        for kernel in each.kernels.values():
            assert [kernel.weight(layer) for layer in range(last_layer + 1)] == [1.0] * (last_layer + 1)
    assert len({each.direction_index for each in settings[1:]}) == len(settings) - 1


def test_seeds_keep_their_relative_depth() -> None:
    source = KernelSpace(COMPONENTS, 20).suggest(asked(20, 1)[0])
    adopted = KernelSpace(COMPONENTS, 40).adopt(source, 20)
    for layer in range(21):
        for component in COMPONENTS:
            assert adopted.kernels[component].weight(2 * layer) == pytest.approx(
                source.kernels[component].weight(layer)
            )
    assert adopted.direction_index == 2 * source.direction_index
    with pytest.raises(ValueError, match=r"expected kernels for .*router.*found attn\.o_proj, mlp\.down_proj"):
        KernelSpace((*COMPONENTS, "router"), 40).adopt(source, 20)


def test_a_front_on_the_edge_of_the_space_is_reported() -> None:
    space = KernelSpace(COMPONENTS, 30)
    inside = WeightKernel(max_weight=1.2, max_weight_position=25.0, min_weight=0.5, min_weight_distance=9.0)
    strongest = inside.model_copy(update={"max_weight": 1.499})
    last = inside.model_copy(update={"max_weight_position": 30.0})

    def on_bounds(index: float, scope: DirectionScope, *kernels: WeightKernel) -> list[str]:
        parameters = KernelParameters(
            direction_scope=scope, direction_index=index, kernels=dict(zip(COMPONENTS, kernels, strict=True))
        )
        return space.on_bounds([parameters])

    assert on_bounds(20.0, "global", inside, inside) == []
    assert on_bounds(20.0, "global", inside, strongest) == ["mlp.down_proj.max_weight at 1.5"]
    assert on_bounds(12.0, "global", inside, inside) == ["direction_index at 12"]
    assert on_bounds(12.0, "per layer", inside, inside) == [], "not used there"
    assert on_bounds(20.0, "global", last, inside) == [], "there is nothing after the last layer"
    assert space.on_bounds(space.literature()) == []
