"""The settings of a config.toml that is in the working directory but was not named by the user."""

import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .renamed import RENAMED
from .sources import DEFAULT_FILE, PREFIX


@dataclass(frozen=True, slots=True)
class FoundFile:
    """The keys that the file sets, and the permissions that they would grant, one text each."""

    path: Path
    keys: tuple[str, ...]
    grants: tuple[str, ...]


def found_file(overridden: Collection[str], path: Path = DEFAULT_FILE) -> FoundFile | None:
    """The file at `path`, without the keys that flags or variables (`overridden`) take the place of; None if there is
    none, or if it can't be read, which `load_settings` reports."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None
    others = {RENAMED.get(_key(key), _key(key)) for key in overridden}
    values = {RENAMED.get(key, key): value for key, value in raw.items()}
    kept = {key: value for key, value in values.items() if key not in others}
    return FoundFile(path, tuple(kept), tuple(_grants(kept)))


def _key(name: str) -> str:
    return name.lower().removeprefix(PREFIX.lower())


def _grants(values: Mapping[str, Any]) -> Iterator[str]:
    """Permissions, addresses, secrets and uploads that only the user may grant."""
    if _given(values.get("trust_remote_code")):
        yield "trust_remote_code: Python code that comes with a model may run"
    if _given(values.get("upload")):
        yield f"upload: the export is sent to {values['upload']!r:.80}"
    for judge in _tables(values.get("judges")):
        if "endpoint" in judge:
            key = f", with the key in ${judge['key_variable']}"[:80] if "key_variable" in judge else ""
            yield f"judges: responses are sent to {judge['endpoint']!r:.80}{key}"
    for benchmark in _tables(values.get("benchmarks")):
        if str(benchmark.get("task", "")).endswith((".yaml", ".yml")):
            yield f"benchmarks: the task {benchmark['task']!r:.80} may run code"


def _given(value: Any) -> bool:
    return value not in (None, False, "", "none", "false")


def _tables(value: Any) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
