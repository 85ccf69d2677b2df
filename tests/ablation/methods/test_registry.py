"""Every method is a choice of the setting, and recorded parameters are read by their own method."""

from typing import get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from heretic.ablation.methods.kernel.parameters import KernelParameters
from heretic.ablation.methods.registry import METHODS, AnyParameters, find_method
from heretic.ablation.parameters import MethodName

RECORDED = {"version": 1, "direction_scope": "global", "direction_index": 7.0, "kernels": {}}


def test_the_setting_has_every_method_and_no_other() -> None:
    assert get_args(MethodName) == tuple(method.name for method in METHODS)
    assert all(find_method(method.name) is method for method in METHODS)


def test_an_unknown_name_is_an_error_that_names_the_known() -> None:
    with pytest.raises(ValueError, match="kernel"):
        find_method("moon")


def test_what_names_no_method_is_of_the_method_kernel() -> None:
    """Journals from before there was another one are read, and written as they were."""
    parameters = TypeAdapter(AnyParameters).validate_python(RECORDED)
    assert isinstance(parameters, KernelParameters) and parameters.method == "kernel"
    assert parameters.model_dump(mode="json") == RECORDED


def test_parameters_of_an_unknown_method_are_refused() -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(AnyParameters).validate_python(RECORDED | {"method": "moon"})
