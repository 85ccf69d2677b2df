"""Which weight files make up a checkpoint."""

from dataclasses import dataclass
from pathlib import Path

from ...errors import ExportError
from ...files import parse_json


@dataclass(frozen=True, slots=True)
class ShardSet:
    """Weight files in the order of the index, and the file of each key by the index (empty for one file)."""

    files: tuple[Path, ...]
    index: dict[str, str]


def find_shards(directory: Path, single: str) -> ShardSet | None:
    """The files of `single` (such as `model.safetensors`) or of its index; None if there is neither.

    Raises:
        ExportError: the index is damaged, or a file that it names is missing.
    """
    if (directory / single).is_file():
        return ShardSet((directory / single,), {})
    index = directory / f"{single}.index.json"
    if not index.is_file():
        return None
    file_of = _weight_map(index)
    names = tuple(dict.fromkeys(file_of.values()))
    missing = [name for name in names if not (directory / name).is_file()]
    if missing:
        raise ExportError(
            f"{index} names {len(names)} weight files, but {len(missing)} of them are not in that directory "
            f"({', '.join(missing[:3])}): download the checkpoint again, completely"
        )
    return ShardSet(tuple(directory / name for name in names), file_of)


def check_index(shards: ShardSet, found: dict[str, Path]) -> None:
    """Compares the index with what the files hold.

    Raises:
        ExportError: a key of the index is not in the file that it names.
    """
    for key, name in shards.index.items():
        if key not in found or found[key].name != name:
            raise ExportError(
                f"the weight index of {shards.files[0].parent} expects {key} in {name}, which does not hold it: "
                "the files are not of one checkpoint, download it again"
            )


def add_key(found: dict[str, Path], key: str, path: Path) -> None:
    """Adds `key`, which `path` holds.

    Raises:
        ExportError: another file holds it too.
    """
    if key in found:
        raise ExportError(
            f"both {found[key].name} and {path.name} in {path.parent} hold {key}: "
            "remove the file that does not belong to this checkpoint"
        )
    found[key] = path


def _weight_map(index: Path) -> dict[str, str]:
    try:
        weight_map = parse_json(index.read_text(encoding="utf-8"))["weight_map"]
        names = set(weight_map.values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExportError(
            f"{index} is no weight index (a JSON object with a weight_map): {error!r}. Download the checkpoint again"
        ) from error
    # A name with a path in it could point outside the checkpoint.
    odd = [name for name in names if not isinstance(name, str) or Path(name).name != name]
    if odd or not weight_map:
        raise ExportError(f"{index} should map keys to files next to it, got {odd[:3]}: download the checkpoint again")
    return dict(weight_map)
