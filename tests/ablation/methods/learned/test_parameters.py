"""The record of a learned trial, and its display."""

import json

from pydantic import TypeAdapter

from heretic.ablation.methods.registry import AnyParameters
from tests.support.learned_trials import learned_parameters


def test_parameters_survive_the_journal() -> None:
    parameters = learned_parameters()
    written = json.loads(json.dumps(parameters.model_dump(mode="json")))
    assert TypeAdapter(AnyParameters).validate_python(written) == parameters


def test_a_dropped_point_has_a_fault() -> None:
    assert learned_parameters().fault is None
    assert learned_parameters(dropped="the loss diverges").fault == "the loss diverges"


def test_strengths_are_shown_by_layer_and_in_a_line() -> None:
    parameters = learned_parameters()
    assert parameters.by_layer(range(2)) == {"attn.o_proj": [0.0, 0.5]}
    assert parameters.brief() == "learned, point 2; attn 0.50"
    assert parameters.facts()["Loss"] == "1.0000 after 2 steps"
    assert parameters.digests == ("abc",)


def test_a_scaled_point_says_so() -> None:
    scaled = learned_parameters(scale=0.7, losses=())
    assert scaled.brief() == "learned, point 2 x 0.7; attn 0.50"
    assert learned_parameters(path=1, point=4).brief() == "learned, path 2 point 5; attn 0.50"
    assert scaled.facts()["Scale"] == "0.7"
    assert scaled.facts()["Loss"] == ""
    assert learned_parameters().facts()["Scale"] == "1"
