"""From the text of a flag or an environment variable to the value that a field expects."""

import json
import tomllib
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo


def members(annotation: Any) -> list[Any]:
    """The types that a union admits, with `Annotated` taken off."""
    if get_origin(annotation) is Annotated:
        return members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [member for part in get_args(annotation) for member in members(part)]
    return [annotation]


def choices(annotation: Any) -> list[str]:
    """The words that a field admits, in their order; empty where it isn't a choice of words."""
    return [word for member in members(annotation) if get_origin(member) is Literal for word in get_args(member)]


def table_of(annotation: Any) -> type[BaseModel] | None:
    """The model whose keys a table of this field has, or a table in its list."""
    for member in members(annotation):
        if isinstance(member, type) and issubclass(member, BaseModel):
            return member
        if get_origin(member) is list:
            return table_of(get_args(member)[0])
    return None


def is_text_list(annotation: Any) -> bool:
    """Whether the field is a list of words or texts, which may be written with commas."""
    lists = [member for member in members(annotation) if get_origin(member) is list]
    items = [item for member in lists for item in members(get_args(member)[0])]
    return bool(items) and all(item is str or get_origin(item) is Literal for item in items)


def is_structured(annotation: Any) -> bool:
    """Whether the field may be a list or a table."""
    return table_of(annotation) is not None or any(get_origin(member) in (list, dict) for member in members(annotation))


def means_none(field: FieldInfo, value: object) -> bool:
    """Whether this is the word for "not given": TOML, flags and the environment have no null."""
    return (
        isinstance(value, str)
        and value.strip().lower() == "none"
        and NoneType in members(field.annotation)
        and "none" not in choices(field.annotation)
    )


def decode(field: FieldInfo, text: str) -> Any:
    """The value of `text`: JSON or TOML for lists and tables, commas for lists of words, else the text itself.

    "none" is None where the field may be None and has no choice of that name; so is "" unless the field takes text.

    Raises:
        ValueError: a list or table is neither JSON nor TOML.
    """
    annotation = field.annotation
    if means_none(field, text):
        return None
    if text == "" and NoneType in members(annotation) and str not in members(annotation):
        return None
    if is_structured(annotation) and text.lstrip()[:1] in ("[", "{"):
        return _structure(text)
    if is_text_list(annotation):
        return [item.strip() for item in text.split(",") if item.strip()]
    return text


def _structure(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as not_json:
        try:
            return tomllib.loads(f"value = {text.strip()}")["value"]
        except tomllib.TOMLDecodeError:
            raise ValueError(f"expected a list or table in JSON or TOML ({not_json})") from None
