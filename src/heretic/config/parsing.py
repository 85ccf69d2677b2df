"""Parsing of flags and environment variables into the values of their fields."""

import tomllib
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ..files import parse_json


def members(annotation: Any) -> list[Any]:
    """The member types of a union, without `Annotated`."""
    if get_origin(annotation) is Annotated:
        return members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [member for part in get_args(annotation) for member in members(part)]
    return [annotation]


def choices(annotation: Any) -> list[str]:
    """The words of a field's Literal types, in order; empty if it has none."""
    return [word for member in members(annotation) if get_origin(member) is Literal for word in get_args(member)]


def table_of(annotation: Any) -> type[BaseModel] | None:
    """The pydantic model of a field's table, or of the tables in its list; None if it has none."""
    for member in members(annotation):
        if isinstance(member, type) and issubclass(member, BaseModel):
            return member
        if get_origin(member) is list:
            return table_of(get_args(member)[0])
    return None


def is_text_list(annotation: Any) -> bool:
    """Whether the field is a list of texts, which may be separated by commas."""
    lists = [member for member in members(annotation) if get_origin(member) is list]
    items = [item for member in lists for item in members(get_args(member)[0])]
    return bool(items) and all(item is str or get_origin(item) is Literal for item in items)


def is_structured(annotation: Any) -> bool:
    """Whether the field may be a list or a table."""
    return table_of(annotation) is not None or any(get_origin(member) in (list, dict) for member in members(annotation))


def means_none(field: FieldInfo, value: object) -> bool:
    """Whether the value is the word none and means null, which TOML, flags and variables don't have."""
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
        return parse_json(text)
    except ValueError as not_json:
        try:
            return tomllib.loads(f"value = {text.strip()}")["value"]
        except (tomllib.TOMLDecodeError, RecursionError):
            raise ValueError(f"expected a list or table in JSON or TOML ({not_json})") from None
