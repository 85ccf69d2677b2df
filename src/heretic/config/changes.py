"""Settings with some values replaced: validated, which pydantic's own `model_copy` does not do."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from ..errors import ConfigError
from .errors import bad_values, paragraph
from .origins import Layer
from .settings import Settings


def changed(settings: Settings, changes: Mapping[str, Any], place: str = "the program") -> Settings:
    """`settings` with `changes` in their place; `place` names where these come from.

    Raises:
        ConfigError: a key is unknown, or a value can't be used.
    """
    merged = {**dict(settings), **changes}
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        raise ConfigError(paragraph(bad_values(error, [Layer(dict(changes), lambda _: place)], merged))) from None
