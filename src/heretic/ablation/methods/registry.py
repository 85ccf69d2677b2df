"""All methods: a new one is a folder, an entry here and a choice of the setting `method`."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import SerializeAsAny, WithJsonSchema, WrapValidator

from ..parameters import AblationParameters
from .base import Method
from .kernel.method import KernelMethod
from .learned.method import LearnedMethod
from .oblique.method import ObliqueMethod

METHODS: tuple[Method, ...] = (KernelMethod(), ObliqueMethod(), LearnedMethod())


def find_method(name: str) -> Method:
    """The method of that name.

    Raises:
        ValueError: there is none.
    """
    for method in METHODS:
        if method.name == name:
            return method
    raise ValueError(f"expected a method ({', '.join(each.name for each in METHODS)}), got {name!r}")


def method_name(parameters: Any) -> str:
    """The method of recorded parameters; those that name none are from before there was another than `kernel`."""
    if isinstance(parameters, Mapping):
        return str(parameters.get("method", "kernel"))
    return str(getattr(parameters, "method", "kernel"))


def _of_its_method(value: Any, _: Any) -> AblationParameters:
    if isinstance(value, AblationParameters):
        return value
    return find_method(method_name(value)).parameters.model_validate(value)


AnyParameters = Annotated[
    SerializeAsAny[AblationParameters],
    WrapValidator(_of_its_method),
    WithJsonSchema({"title": "Parameters of a method", "type": "object", "additionalProperties": True}),
]
"""Parameters of any method, as records hold them."""
