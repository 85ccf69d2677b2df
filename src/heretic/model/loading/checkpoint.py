"""Checkpoints on disk, found from a directory, a hub id or a .gguf file."""

import difflib
import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ...errors import ModelError
from ...files import expand_home, parse_json

if TYPE_CHECKING:
    from ...events import Reporter

SPLIT = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
"""The end of the name of one part of a split GGUF file: its number and how many there are."""
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".gguf")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model on disk. `name` is as the user typed it; `gguf_file` is set when the weights are a GGUF file (the first
    part of a split one), and `revision`, the commit, when it came from the hub. A GGUF file that was converted from a
    checkpoint is loaded with the `configuration` of that: transformers does not read all keys of a file."""

    name: str
    directory: Path
    gguf_file: str | None = None
    revision: str | None = None
    configuration: Path | None = None

    @property
    def source(self) -> dict[str, str]:
        """Arguments of transformers' `from_pretrained` besides the directory."""
        return {} if self.gguf_file is None else {"gguf_file": self.gguf_file}

    def weight_files(self) -> list[str]:
        """Names of the files that hold weights, in order."""
        if self.gguf_file:
            return [path.name for path in gguf_parts(self.directory / self.gguf_file)]
        return sorted(path.name for path in self.directory.iterdir() if path.suffix in WEIGHT_SUFFIXES)

    def digest(self) -> str:
        """Identity of the weights without reading them all: configuration, file names, sizes, first and last MiB."""
        digest = hashlib.sha256()
        names = self.weight_files()
        config = self.directory / "config.json"
        if not self.gguf_file and config.exists():
            digest.update(config.read_bytes())
        for name in names:
            path = self.directory / name
            size = path.stat().st_size
            digest.update(f"{name}:{size}".encode())
            with path.open("rb") as file:
                digest.update(file.read(1 << 20))
                file.seek(max(0, size - (1 << 20)))
                digest.update(file.read())
        return digest.hexdigest()[:16]


def find_checkpoint(name: str, revision: str | None = None, reporter: "Reporter | None" = None) -> Checkpoint:
    """The checkpoint that `name` means; a hub id (or OWNER/NAME/FILE.gguf) is downloaded into the hub's own cache.

    The reporter shows the download.

    The revision of a checkpoint from the hub is the commit that was downloaded: a branch may be another one tomorrow.

    Raises:
        ModelError: nothing is there, or the hub can't give it.
    """
    path = expand_home(name)
    if path.is_file():
        if path.suffix != ".gguf":
            raise ModelError(f"Expected a model directory, a hub id or a .gguf file, got the file {name}.")
        return _gguf(name, path)
    if path.is_dir():
        return _local_directory(name, path)
    on_hub = hub_name(name)
    if on_hub is None or (on_hub.file is None and path.suffix == ".gguf"):
        raise ModelError(
            f"No model at {name}: the path does not exist{near_names(path)}. "
            "Give a directory, a .gguf file or a hub id."
        )
    from .hub import download_file, download_model

    if on_hub.file is not None:
        file, commit = download_file(on_hub.repository, on_hub.file, revision, reporter)
        return replace(_gguf(name, file), revision=commit)
    directory, commit = download_model(name, revision, reporter)
    return Checkpoint(name, directory, None, commit)


class HubName(NamedTuple):
    """A repository of the hub and, of OWNER/NAME/FILE.gguf, the file."""

    repository: str
    file: str | None


def hub_name(name: str) -> HubName | None:
    """The repository and file that `name` means on the hub; None where it is a path here, or no repository's name."""
    parts = name.split("/")
    if expand_home(name).exists() or name.startswith((".", "/", "~")) or "" in parts:
        return None
    if len(parts) <= 2:
        return HubName(name, None)
    return HubName("/".join(parts[:2]), "/".join(parts[2:])) if name.endswith(".gguf") else None


def near_names(path: Path) -> str:
    """What the directory of a path that does not exist has instead, in parentheses after a space: similar names, if
    there are any. Nothing where that directory does not exist either."""
    parent = path.parent
    try:
        names = [each.name for each in parent.iterdir()]
    # ValueError: the name holds a null character.
    except (OSError, ValueError):
        return ""
    if close := difflib.get_close_matches(path.name, names, n=3):
        place = "this directory" if parent == Path() else parent
        return f" ({place} has {', '.join(close)})"
    # Of a name alone, the directory is the present one.
    return "" if parent == Path() else f" ({parent} has no {path.name})"


def gguf_parts(path: Path) -> list[Path]:
    """The files of a GGUF model, in order: `path`, or all parts of the split file that it belongs to."""
    split = SPLIT.search(path.name)
    if split is None:
        return [path]
    stem, count = path.name.removesuffix(split[0]), int(split[2])
    return [path.with_name(f"{stem}-{number:05d}-of-{count:05d}.gguf") for number in range(1, count + 1)]


def is_projector(name: str) -> bool:
    """Whether a GGUF file of this name turns images or sound into a model's input, and is none itself.

    llama.cpp's converter gives it the name mmproj-MODEL.gguf.
    """
    return "mmproj" in name.lower()


def _gguf(name: str, path: Path) -> Checkpoint:
    parts = gguf_parts(path)
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        raise ModelError(
            f"Expected all {len(parts)} parts of the split GGUF file {path.name}, but {len(missing)} are not next to "
            f"it ({', '.join(missing[:3])}). Download them into the same directory."
        )
    return Checkpoint(name, path.parent, parts[0].name)


def _local_directory(name: str, path: Path) -> Checkpoint:
    if (path / "config.json").exists():
        return Checkpoint(name, path)
    ggufs = sorted(each for each in path.glob("*.gguf") if not is_projector(each.name))
    if len({gguf_parts(each)[0] for each in ggufs}) == 1:
        return _gguf(name, ggufs[0])
    if (path / "adapter_config.json").exists():
        raise ModelError(
            f"Expected a model in {name}, found a PEFT adapter alone{_base_of(path)}. Merge it into its base model "
            "(PEFT: merge_and_unload, then save_pretrained), and name the directory of the result."
        )
    found = f"{len(ggufs)} .gguf files" if ggufs else "neither config.json nor a .gguf file"
    raise ModelError(
        f"Expected a model in {name}: a directory with config.json, or with one .gguf file; found {found}. "
        "Name the .gguf file itself, or the directory that holds config.json."
    )


def _base_of(adapter: Path) -> str:
    """The base model that an adapter's configuration names, in words; nothing if it can't be read."""
    try:
        base = parse_json((adapter / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return f", of the model {base:.200}" if isinstance(base, str) else ""
