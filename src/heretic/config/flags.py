"""A command-line flag for each setting."""

import argparse
from collections.abc import Iterable
from types import NoneType
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from .parsing import choices, is_structured, is_text_list, members
from .renamed import RENAMED, WITHOUT_MEANING
from .sections import SECTIONS
from .settings import Settings
from .types import Metavar

HIDDEN: dict[str, Any] = {"default": argparse.SUPPRESS, "help": argparse.SUPPRESS}


def add_flags(parser: argparse.ArgumentParser, sections: Iterable[type[BaseModel]] | None = None) -> None:
    """Adds a flag for each field of the sections (all of them if not given), and puts nothing into the namespace
    that the user did not give."""
    for section in SECTIONS if sections is None else sections:
        group = parser.add_argument_group(section.model_config.get("title"))
        for name, field in section.model_fields.items():
            _add_flag(group, name, field)
    if sections is None:
        for key in WITHOUT_MEANING:
            parser.add_argument(_dashed(key), **HIDDEN)


def given_flags(namespace: argparse.Namespace) -> dict[str, str | bool]:
    """The settings that were given, by key; what else the namespace holds is left out."""
    known = {*Settings.model_fields, *RENAMED, *WITHOUT_MEANING}
    return {key: value for key, value in vars(namespace).items() if key in known and value is not None}


def default_text(field: FieldInfo, longest: int = 60) -> str | None:
    """The default in words, or None where nothing is the default or it is too long to show."""
    value = field.get_default()
    if value is None or value == []:
        return None
    if isinstance(value, bool):
        return "yes" if value else "no"
    shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return shown if len(shown) <= longest else None


def _add_flag(group: Any, name: str, field: FieldInfo) -> None:
    # argparse formats help texts with %, so a percent sign of ours must be doubled.
    text = str(field.description).replace("%", "%%")
    default = default_text(field)
    if default is not None:
        text = f"{text.removesuffix('.')} (default: {default.replace('%', '%%')})."
    kind: dict[str, Any] = {"metavar": metavar(name, field)}
    if bool in members(field.annotation):
        kind = {"action": argparse.BooleanOptionalAction}
    group.add_argument(_dashed(name), default=argparse.SUPPRESS, help=text, **kind)
    for former in (key for key, new in RENAMED.items() if new == name):
        group.add_argument(_dashed(former), **kind, **HIDDEN)


def metavar(name: str, field: FieldInfo) -> str:
    """What stands for the value in --help."""
    for entry in field.metadata:
        if isinstance(entry, Metavar):
            return entry.text
    if is_text_list(field.annotation):
        return "A,B,..."
    types = [member for member in members(field.annotation) if member is not NoneType]
    words = choices(field.annotation) + ["N" for member in types if member is int]
    words += ["X" for member in types if member is float]
    if words and not is_structured(field.annotation):
        return "|".join(words)
    return name.rsplit("_", 1)[-1].upper()


def _dashed(key: str) -> str:
    return "--" + key.replace("_", "-")
