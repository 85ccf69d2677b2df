"""What the metadata of an exported GGUF file says of its origin, in the general keys that programs show."""

from collections.abc import Mapping
from typing import Any

from gguf import GGUFReader

from ..card import TAGS
from ..formats.base import Export
from .header import Value

NAME = "general.name"
ORIGIN = "general.base_model.0"


def about(export: Export, known: Mapping[str, Any]) -> dict[str, Value]:
    """General keys of an edited model; `known` are those of the original."""
    base = str(known.get(NAME) or export.base_model.rpartition("/")[2].removesuffix(".gguf"))
    found: dict[str, Value] = {
        NAME: f"{base} heretic",
        "general.finetune": "heretic",
        "general.tags": [*(tag for tag in _texts(known.get("general.tags")) if tag not in TAGS), *TAGS],
        "general.description": f"{base}, edited by heretic so that it declines less",
    }
    owner, _, name = (export.repository or "").rpartition("/")
    if owner:
        found |= {f"{ORIGIN}.organization": owner, f"{ORIGIN}.repo_url": f"https://huggingface.co/{owner}/{name}"}
    if owner or f"{ORIGIN}.name" not in known:
        found |= {"general.base_model.count": 1, f"{ORIGIN}.name": name or base}
    return found


def general_keys(file: GGUFReader) -> dict[str, Any]:
    """The general keys of a file."""
    return {name: field.contents() for name, field in file.fields.items() if name.startswith("general.")}


def _texts(value: Any) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list | tuple) else []
