"""Writes config.default.toml: `python -m heretic.config.document > config.default.toml`."""

import json
import re
import sys
import textwrap
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from .measuring import MeasuringSettings
from .parsing import choices
from .presets import PromptSources, ReportSources, preset_source, resolve_report_prompts
from .sections import SECTIONS, PromptSettings
from .types import PromptSource

WIDTH = 110

HEAD = """\
# The settings of heretic, with their defaults. Copy this file to config.toml and keep the lines that you change.
#
# A setting is taken from config.toml in the working directory, from an environment variable (HERETIC_N_TRIALS=100)
# and from a flag (--n-trials 100); later ones win. In variables and flags a list or table is written as JSON or
# inline TOML, and a list of words may be written with commas. A line that begins with "# key =" is a setting that
# is not given by default, with an example.
"""

PROMPTS = """\
# ---- Prompt tables ----

# Tables must stand below all other keys. Keys of a prompt table:
{keys}
# Without a table the preset fills it in. These are the tables of the preset "hub", public sets of the hub (those of
# the measurement at the end are packaged):
"""


def toml_value(value: Any, nested: bool = False) -> str:
    """A value as TOML; a list that does not fit in a line has a line for each item."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, BaseModel):
        return toml_value(value.model_dump())
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {toml_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        items = [toml_value(item, nested=True) for item in value]
        line = f"[{', '.join(items)}]"
        if nested or len(line) <= WIDTH - 30:
            return line
        return "[\n" + "".join(f"  {item},\n" for item in items) + "]"
    # A TOML basic string has the escapes of a JSON string.
    return json.dumps(str(value), ensure_ascii=False)


def document() -> str:
    """The text of config.default.toml."""
    parts = [HEAD]
    for section in SECTIONS:
        parts.append(f"# ---- {section.model_config.get('title')} ----\n")
        parts += [entry(name, field) for name, field in section.model_fields.items() if not _is_prompts(name)]
    parts.append(prompt_tables())
    return "\n".join(parts)


def entry(name: str, field: FieldInfo) -> str:
    """A key with its description; commented out, with an example, where nothing is the default."""
    words = choices(field.annotation)
    comment = _comment(f"{field.description}" + (f" One of: {', '.join(words)}." if words else ""))
    default = field.get_default()
    if default is not None:
        return f"{comment}{name} = {toml_value(default)}\n"
    return f"{comment}# {name} = {toml_value(field.examples[0] if field.examples else '')}\n"


def prompt_tables() -> str:
    """The prompt tables of the preset "hub", commented out, and what their keys mean."""
    keys = "".join(_comment(f"  {name}: {field.description}") for name, field in PromptSource.model_fields.items())
    text = PROMPTS.format(keys=keys.rstrip("\n"))
    for name in PromptSources._fields:
        split = "search" if "evaluation" in name else "direction"
        source = preset_source("hub", split, name.split("_")[0])
        text += "\n" + _comment(str(PromptSettings.model_fields[name].description)) + f"# [{name}]\n"
        text += "".join(f"# {key} = {toml_value(value)}\n" for key, value in source.model_dump().items() if value)
    return text + report_tables()


def report_tables() -> str:
    """The prompt tables of the measurement at the end, commented out: those of the preset "hub", which are packaged."""
    sources = resolve_report_prompts(PromptSettings(preset="hub"), MeasuringSettings())
    text = ""
    for name, source in (sources._asdict() if sources else {}).items():
        text += "\n" + _comment(str(MeasuringSettings.model_fields[name].description)) + f"# [{name}]\n"
        text += "".join(f"# {key} = {toml_value(value)}\n" for key, value in source.model_dump().items() if value)
    return text


def _key(key: object) -> str:
    return str(key) if re.fullmatch(r"[\w-]+", str(key), re.ASCII) else json.dumps(key, ensure_ascii=False)


def _is_prompts(name: str) -> bool:
    return name in PromptSources._fields or name in ReportSources._fields


def _comment(text: str) -> str:
    lines = textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="#     " if text[0] == " " else "# ")
    return "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(document())
