"""Reads the settings: config.toml, then HERETIC_ variables, then flags; later ones win."""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import EnvSettingsSource

from ..errors import ConfigError
from .errors import bad_values, nearest, paragraph, shortened, unknown_key
from .origins import KeyPath, Layer, line_of, merge, place_of
from .parsing import decode, means_none
from .renamed import ELSEWHERE, RENAMED, WITHOUT_EFFECT, WITHOUT_MEANING, elsewhere
from .settings import Settings

DEFAULT_FILE = Path("config.toml")
PREFIX = "HERETIC_"
KNOWN = (*Settings.model_fields, *RENAMED, *WITHOUT_MEANING)


@dataclass(frozen=True, slots=True)
class _Source:
    """Raw values by key as written, how to read one, and how to name its place."""

    raw: Mapping[str, Any]
    read: Callable[[FieldInfo, Any], Any]
    place: Callable[[KeyPath], str]


@dataclass(frozen=True, slots=True)
class _Notes:
    """Problems and warnings so far: the user reads all of them at once."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def load_settings(flags: Mapping[str, str | bool], config_file: Path | None = None) -> tuple[Settings, list[str]]:
    """The settings, and warnings to show.

    `flags` holds the given flags by key (`given_flags`). `config_file` must exist; by default, config.toml in the
    working directory is read if there is one.

    Raises:
        ConfigError: a file can't be read, a key is unknown, or a value is invalid.
    """
    notes = _Notes()
    settings, layers = _settle(
        (_file(config_file), _environment(notes), _Source(flags, _read_text, _flag_place)), notes
    )
    without_effect = (
        f"{key} ({place_of(layers, [key])}) has no effect in this release: {instead}."
        for key, instead in WITHOUT_EFFECT.items()
        if getattr(settings, key) != Settings.model_fields[key].default
    )
    return settings, [*notes.warnings, *without_effect]


def recorded_settings(recorded: Mapping[str, Any], name: str, flags: Mapping[str, str | bool]) -> Settings:
    """The settings in the record `name`, overridden by `flags`; files and variables are not read.

    Raises:
        ConfigError: a key is unknown (a later version may have written it), or a value is invalid.
    """
    sources = (_Source(recorded, lambda _, value: value, lambda _: name), _Source(flags, _read_text, _flag_place))
    return _settle(sources, _Notes())[0]


def _settle(sources: Sequence[_Source], notes: _Notes) -> tuple[Settings, list[Layer]]:
    layers = [_layer(source, notes) for source in sources]
    merged = merge(layers)
    try:
        settings = Settings.model_validate(merged)
    except ValidationError as error:
        problems = [*notes.problems, *bad_values(error, layers, merged)]
        raise ConfigError(paragraph(problems)) from None
    if notes.problems:
        raise ConfigError(paragraph(notes.problems))
    return settings, layers


def _layer(source: _Source, notes: _Notes) -> Layer:
    """The source's values by field; unreadable ones become problems."""
    values: dict[str, Any] = {}
    written: dict[str, str] = {}
    for key, raw in source.raw.items():
        place, name = source.place([key]), RENAMED.get(key, key)
        if key in WITHOUT_MEANING:
            notes.warnings.append(f"{key} ({place}) has no meaning here and is ignored: {WITHOUT_MEANING[key]}.")
        elif key in ELSEWHERE:
            notes.problems.append(f"{key} ({place}) is a key of another program: {elsewhere(key)}")
        elif name not in Settings.model_fields:
            notes.problems.append(unknown_key(key, place, KNOWN))
        elif name in written:
            notes.problems.append(f"{key} ({place}) is another name of {written[name]}: give one of them")
        else:
            written[name] = key
            if name != key:
                notes.warnings.append(f"{key} ({place}) is called {name} here. The name {key} still works.")
            try:
                values[name] = source.read(Settings.model_fields[name], raw)
            except ValueError as error:
                notes.problems.append(f"{key} ({place}): {error}, got {shortened(raw)}")
    return Layer(values, lambda path: source.place([written[str(path[0])], *path[1:]]))


def _file(config_file: Path | None) -> _Source:
    """The configuration file; without one, nothing."""
    path = config_file or DEFAULT_FILE
    if not path.is_file():
        if config_file is not None:
            raise ConfigError(
                f"Expected a configuration file at {path}, found none. Correct --config, or leave it out."
            )
        return _Source({}, _read_toml, lambda key_path: str(path))
    try:
        # Editors of Windows begin a file with a byte-order mark, which is none of its text.
        text = path.read_text(encoding="utf-8-sig")
        raw = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} can't be read as TOML: it is not UTF-8 ({error.reason} at byte {error.start}). Save it as UTF-8."
        ) from error
    except (tomllib.TOMLDecodeError, OSError, RecursionError) as error:
        raise ConfigError(f"{path} can't be read as TOML: {error}. Correct that line and start again.") from error

    def place(key_path: KeyPath) -> str:
        line = line_of(text, key_path)
        return f"{path}, line {line}" if line else str(path)

    return _Source(raw, _read_toml, place)


def _environment(notes: _Notes) -> _Source:
    """The HERETIC_ variables. An unknown one may belong to another program, so it is worth a warning only."""
    variables = EnvSettingsSource(Settings).env_vars
    raw = {}
    for name, text in variables.items():
        key = name.lower().removeprefix(PREFIX.lower())
        if key == name.lower() or text is None:
            continue
        if key in KNOWN:
            raw[key] = text
        else:
            meant = nearest(key, KNOWN)
            advice = f": did you mean {PREFIX}{meant.upper()}?" if meant else "."
            notes.warnings.append(f"{PREFIX}{key.upper()} is not a setting and is ignored{advice}")
    return _Source(raw, _read_text, lambda key_path: f"{PREFIX}{str(key_path[0]).upper()}")


def _flag_place(key_path: KeyPath) -> str:
    return "--" + str(key_path[0]).replace("_", "-")


def _read_toml(field_info: FieldInfo, value: Any) -> Any:
    return None if means_none(field_info, value) else value


def _read_text(field_info: FieldInfo, value: Any) -> Any:
    return decode(field_info, value) if isinstance(value, str) else value
