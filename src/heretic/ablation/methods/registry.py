"""All methods: a new one is a folder, an entry here and a choice of the setting `method`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import Discriminator, Tag

from ..parameters import AblationParameters
from .base import Method
from .kernel.method import KernelMethod
from .oblique.method import ObliqueMethod

METHODS: tuple[Method, ...] = (KernelMethod(), ObliqueMethod())


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


if TYPE_CHECKING:
    AnyParameters = AblationParameters
else:
    _TAGGED = tuple(Annotated[method.parameters, Tag(method.name)] for method in METHODS)
    # A union of a tuple has no other spelling.
    AnyParameters = Annotated[Union[_TAGGED], Discriminator(method_name)]  # noqa: UP007
    """Parameters of any method, as records hold them."""
