"""Suggestions lie in their ranges, and what is encoded is what would have been drawn."""

import optuna
import pytest
from pydantic import TypeAdapter

from heretic.ablation.methods.kernel.space import KernelSpace
from heretic.ablation.methods.oblique.parameters import ObliqueParameters
from heretic.ablation.methods.oblique.space import ObliqueSpace
from heretic.ablation.methods.registry import AnyParameters

COMPONENTS = ("attn.o_proj", "mlp.down_proj")


def asked(count: int) -> list[optuna.Trial]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [study.ask() for _ in range(count)]


@pytest.mark.parametrize("last_layer", [1, 2, 11, 31])
def test_every_suggestion_lies_in_its_range_and_comes_back_encoded(last_layer: int) -> None:
    space = ObliqueSpace(COMPONENTS, last_layer)
    for trial in asked(50):
        parameters = space.suggest(trial)
        assert 0.03 <= parameters.shrink <= 3 and 0 <= parameters.answer_share <= 1
        for kernel in parameters.kernels.values():
            assert 0 <= kernel.min_weight <= kernel.max_weight <= 1.2
            assert 0.4 * last_layer <= kernel.max_weight_position <= last_layer
        assert space.encode(parameters) == pytest.approx(trial.params)


def test_a_record_names_the_method() -> None:
    [trial] = asked(1)
    parameters = ObliqueSpace(COMPONENTS, 11).suggest(trial)
    recorded = parameters.model_dump(mode="json")
    assert recorded["method"] == "oblique"
    again = TypeAdapter(AnyParameters).validate_python(recorded)
    assert isinstance(again, ObliqueParameters) and again == parameters


def test_the_first_candidates_edit_the_upper_half_evenly() -> None:
    for candidate in ObliqueSpace(COMPONENTS, 30).literature():
        for kernel in candidate.kernels.values():
            weights = [kernel.weight(layer) for layer in range(31)]
            assert weights[:13] == [0.0] * 13 and len(set(weights[14:])) == 1 and weights[30] > 0


def test_candidates_of_another_method_are_not_adopted() -> None:
    kernel, oblique = KernelSpace(COMPONENTS, 11), ObliqueSpace(COMPONENTS, 11)
    with pytest.raises(ValueError, match="oblique, found kernel"):
        oblique.adopt(kernel.literature()[0], 11)
    with pytest.raises(ValueError, match="kernel, found oblique"):
        kernel.adopt(oblique.literature()[0], 11)
    deeper = ObliqueSpace(COMPONENTS, 22).adopt(oblique.literature()[0], 11)
    assert deeper.kernels["attn.o_proj"].max_weight_position == 22


def test_a_front_on_an_end_is_reported_but_not_at_strength_0() -> None:
    space = ObliqueSpace(COMPONENTS, 30)
    inside = space.suggest(asked(1)[0])
    assert space.on_bounds([inside.model_copy(update={"shrink": 3.0})]) == ["shrink at 3"]
    without = inside.kernels["mlp.down_proj"].model_copy(update={"max_weight": 0.0, "min_weight": 0.0})
    kernels = inside.kernels | {"mlp.down_proj": without}
    assert space.on_bounds([inside.model_copy(update={"kernels": kernels})]) == []
