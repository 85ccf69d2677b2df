"""Layers of configuration: how they merge, and the place of a key in them."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .parsing import table_of
from .settings import Settings

KeyPath = Sequence[str | int]


@dataclass(frozen=True, slots=True)
class Layer:
    """One source of values; `place` names the file and line, variable or flag of a key."""

    values: Mapping[str, Any]
    place: Callable[[KeyPath], str]


def merge(layers: Sequence[Layer]) -> dict[str, Any]:
    """All values; later layers override earlier ones, and tables merge by key."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.values.items():
            merged[key] = _merge_value(key, merged.get(key), value)
    return merged


def _merge_value(key: str, below: Any, above: Any) -> Any:
    if not isinstance(above, Mapping):
        return above
    if isinstance(below, str) and table_of(Settings.model_fields[key].annotation) is not None:
        below = {"dataset": below}
    return {**below, **above} if isinstance(below, Mapping) else above


def place_of(layers: Sequence[Layer], path: KeyPath) -> str:
    """The place of the value at `path`: in the last layer that holds all of it, else the last that holds its key.

    A value that no layer holds was among the settings before.
    """
    holders = [layer for layer in layers if path[0] in layer.values]
    if not holders:
        return "the settings"
    deepest = max(holders, key=lambda layer: (_depth(layer.values, path), layers.index(layer)))
    return deepest.place(path)


def _depth(values: Any, path: KeyPath) -> int:
    """Number of steps of `path` that exist in `values`; whatever is no table counts as holding the rest of the path."""
    for depth, step in enumerate(path):
        if isinstance(values, Mapping):
            if step not in values:
                return depth
            values = values[step]
        else:
            return len(path)
    return len(path)


def line_of(text: str, path: KeyPath) -> int | None:
    """The line number of a key in a TOML document, or of the table that holds it; None if neither is found."""
    lines = text.splitlines()
    line = _find(lines, str(path[0]), 0)
    if line is None:
        return None
    inner = None
    # Below a table's header each key has a line of its own, up to the next header.
    if len(path) > 1 and isinstance(path[1], str) and lines[line].lstrip().startswith("["):
        end = next((n for n in range(line + 1, len(lines)) if lines[n].lstrip().startswith("[")), len(lines))
        inner = _find(lines[:end], path[1], line + 1)
    return (line if inner is None else inner) + 1


def _find(lines: Sequence[str], key: str, start: int) -> int | None:
    pattern = re.compile(rf"""\s*(\[+\s*)?["']?{re.escape(key)}["']?\s*[=.\]].*""")
    return next((n for n in range(start, len(lines)) if pattern.fullmatch(lines[n])), None)
