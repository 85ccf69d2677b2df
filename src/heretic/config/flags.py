"""A command-line flag for each setting."""

import argparse
import re
from collections.abc import Collection
from types import NoneType
from typing import Any

from pydantic.fields import FieldInfo

from .parsing import choices, is_structured, is_text_list, members
from .renamed import RENAMED, WITHOUT_MEANING
from .sections import SECTIONS
from .settings import Settings
from .types import Metavar

SHORT = {"n_trials": "-n", "output": "-o", "upload_public": "--public"}
"""Second spellings of flags."""

NAMES = ("Hugging Face", "Python", "Accelerate")
"""Beginnings of help texts that are names."""

HIDDEN: dict[str, Any] = {"default": argparse.SUPPRESS, "help": argparse.SUPPRESS}


def add_flags(parser: argparse.ArgumentParser, keys: Collection[str] | None = None) -> dict[str, argparse.Action]:
    """Adds a flag for each setting of `keys` (default: all), in a group a section; returns them by key.

    Former names of the keys are accepted too, and shown nowhere. What the user does not give is not in the namespace.
    """
    actions = {}
    for section in SECTIONS:
        names = [name for name in section.model_fields if keys is None or name in keys]
        group = parser.add_argument_group(section.model_config.get("title")) if names else None
        for name in names:
            actions[name] = _add_flag(group, name, section.model_fields[name])
    if len(actions) == len(Settings.model_fields):
        for key in WITHOUT_MEANING:
            # One of them is a switch in heretic-llm, and may be given with or without a value.
            parser.add_argument(_dashed(key), nargs="?", const="true", **HIDDEN)
    return actions


def given_flags(namespace: argparse.Namespace) -> dict[str, str | bool]:
    """The settings that were given, by key; what else the namespace holds is left out."""
    known = {*Settings.model_fields, *RENAMED, *WITHOUT_MEANING}
    return {key: value for key, value in vars(namespace).items() if key in known and value is not None}


def short_text(help_text: str) -> str:
    """The first sentence of a flag's help as a phrase, with the default from its end."""
    first, _, rest = help_text.removesuffix(".").partition(". ")
    default = re.search(r" \(default: [^()]*\)$", rest)
    phrase = first + (default[0] if default else "")
    word = phrase.partition(" ")[0]
    named = phrase.startswith(NAMES) or word[1:] != word[1:].lower()
    return phrase if named else phrase[:1].lower() + phrase[1:]


def default_text(field: FieldInfo, longest: int = 60) -> str | None:
    """The default in words; None where there is none or it is too long to show."""
    value = field.get_default()
    if value is None or value == []:
        return None
    if isinstance(value, bool):
        return "yes" if value else "no"
    shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return shown if len(shown) <= longest else None


def _add_flag(group: Any, name: str, field: FieldInfo) -> argparse.Action:
    # argparse formats help texts with %, so a percent sign of ours must be doubled.
    text = str(field.description).replace("%", "%%")
    default = default_text(field)
    if default is not None:
        text = f"{text.removesuffix('.')} (default: {default.replace('%', '%%')})."
    kind: dict[str, Any] = {"metavar": metavar(name, field)}
    if bool in members(field.annotation):
        kind = {"action": argparse.BooleanOptionalAction}
    spellings = [*([SHORT[name]] if name in SHORT else []), _dashed(name)]
    action: argparse.Action = group.add_argument(*spellings, dest=name, default=argparse.SUPPRESS, help=text, **kind)
    for former in (key for key, new in RENAMED.items() if new == name):
        group.add_argument(_dashed(former), **kind, **HIDDEN)
    return action


def metavar(name: str, field: FieldInfo) -> str:
    """The placeholder of the value in --help."""
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
