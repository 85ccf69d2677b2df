"""Settings with some values replaced: validated, which pydantic's own `model_copy` does not do."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from ..errors import ConfigError
from .errors import bad_values, paragraph
from .origins import Layer
from .sections import Section

S = TypeVar("S", bound=Section)


def changed(settings: S, changes: Mapping[str, Any], place: str = "the program") -> S:
    """`settings` with `changes` in their place; `place` names where these come from.

    What was not set stays not set (`model_fields_set`).

    Raises:
        ConfigError: a key is unknown, or a value can't be used.
    """
    merged = {**{key: getattr(settings, key) for key in settings.model_fields_set}, **changes}
    try:
        return type(settings).model_validate(merged)
    except ValidationError as error:
        raise ConfigError(paragraph(bad_values(error, [Layer(dict(changes), lambda _: place)], merged))) from None
