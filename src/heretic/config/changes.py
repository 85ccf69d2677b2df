"""Settings with some values replaced, and some of their values as JSON."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from ..errors import ConfigError
from .errors import bad_values, paragraph
from .origins import Layer
from .sections import Section

S = TypeVar("S", bound=Section)


def values_as_json(settings: Section, keys: Sequence[str]) -> dict[str, Any]:
    """The values of `keys`, in that order."""
    dumped = settings.model_dump(mode="json", include=set(keys))
    return {key: dumped[key] for key in keys}


def changed(settings: S, changes: Mapping[str, Any], place: str = "the program") -> S:
    """`settings` with `changes` in their place, validated (pydantic's own `model_copy` does not validate).

    `place` names where the changes come from.

    What was not set stays not set (`model_fields_set`).

    Raises:
        ConfigError: a key is unknown, or a value can't be used.
    """
    merged = {**{key: getattr(settings, key) for key in settings.model_fields_set}, **changes}
    try:
        return type(settings).model_validate(merged)
    except ValidationError as error:
        raise ConfigError(paragraph(bad_values(error, [Layer(dict(changes), lambda _: place)], merged))) from None
