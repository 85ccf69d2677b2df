"""Writes config.default.toml: `python -m heretic.config.document > config.default.toml`."""

import json
import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from .parsing import choices
from .presets import HeldoutSources, PromptSources, preset_source, resolve_heldout_prompts
from .sections import SECTIONS, HeldoutSettings, PromptSettings
from .types import PromptSource

WIDTH = 110

HEAD = """\
# The settings of heretic, with their defaults. Copy this file to config.toml and keep the lines that you change.
#
# Settings are read from config.toml in the working directory, from environment variables (HERETIC_SEED=7) and
# from flags (--seed 7); a flag overrides a variable, a variable overrides the file. Write lists and tables in
# variables and flags as JSON or inline TOML; a list of words may also be separated by commas. A line that begins with
# "# key =" shows an example for a setting that has no default.
"""

PROMPTS = """\
# ---- Prompt tables ----

# TOML wants tables after all other keys. Keys of a prompt table:
{keys}
# The preset provides every table that is not given. These are the tables of the preset "hub": public sets of the hub,
# and packaged sets for the held-out evaluation.
"""


def toml_value(value: Any, nested: bool = False) -> str:
    """A value as TOML; a list that does not fit in a line is broken into several."""
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
        # Short texts share lines; what is nested has a line of its own.
        rows = items if any(isinstance(item, list | tuple | Mapping) for item in value) else _rows(items)
        return "[\n" + "".join(f"  {row},\n" for row in rows) + "]"
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
    """A key with its description; commented out, with an example, where it has no default."""
    text, words = str(field.description), choices(field.annotation)
    if not all(re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text) for word in words):
        text += f" One of: {', '.join(words)}."
    comment = _comment(text)
    default = field.get_default()
    if default is not None:
        return f"{comment}{name} = {toml_value(default)}\n"
    return f"{comment}# {name} = {toml_value(field.examples[0] if field.examples else '')}\n"


def prompt_tables() -> str:
    """The prompt tables of the preset "hub", commented out, with the meaning of their keys."""
    keys = "".join(_comment(f"  {name}: {field.description}") for name, field in PromptSource.model_fields.items())
    text = PROMPTS.format(keys=keys.rstrip("\n"))
    for name in PromptSources._fields:
        split = "search" if "evaluation" in name else "direction"
        source = preset_source("hub", split, name.split("_")[0])
        text += "\n" + _comment(str(PromptSettings.model_fields[name].description)) + f"# [{name}]\n"
        text += "".join(f"# {key} = {toml_value(value)}\n" for key, value in source.model_dump().items() if value)
    return text + heldout_tables()


def heldout_tables() -> str:
    """The prompt tables of the held-out evaluation, commented out: the packaged sets of the preset "hub"."""
    sources = resolve_heldout_prompts(PromptSettings(preset="hub"), HeldoutSettings())
    text = ""
    for name, source in (sources._asdict() if sources else {}).items():
        text += "\n" + _comment(str(HeldoutSettings.model_fields[name].description)) + f"# [{name}]\n"
        text += "".join(f"# {key} = {toml_value(value)}\n" for key, value in source.model_dump().items() if value)
    return text


def _key(key: object) -> str:
    return str(key) if re.fullmatch(r"[\w-]+", str(key), re.ASCII) else json.dumps(key, ensure_ascii=False)


def _rows(items: Sequence[str]) -> list[str]:
    """The items joined with commas, as many to a row as fit."""
    rows: list[str] = []
    for item in items:
        if rows and len(rows[-1]) + len(item) + 5 <= WIDTH:
            rows[-1] += f", {item}"
        else:
            rows.append(item)
    return rows


def _is_prompts(name: str) -> bool:
    return name in PromptSources._fields or name in HeldoutSources._fields


def _comment(text: str) -> str:
    indent = "#     " if text[0] == " " else "# "
    lines = textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent=indent, break_on_hyphens=False)
    return "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(document())
