"""From what a user types (directory, hub id, .gguf file) to files on disk."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelError

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".gguf")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model on disk. `name` is what the user typed; `gguf_file` is set when the weights are one GGUF file."""

    name: str
    directory: Path
    gguf_file: str | None = None
    revision: str | None = None

    @property
    def source(self) -> dict[str, str]:
        """Arguments for transformers' `from_pretrained`, beside the directory."""
        return {} if self.gguf_file is None else {"gguf_file": self.gguf_file}

    def digest(self) -> str:
        """Identity of the weights without reading them all: configuration, file names, sizes, first and last MiB."""
        digest = hashlib.sha256()
        names = [self.gguf_file] if self.gguf_file else _weight_files(self.directory)
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


def _weight_files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.suffix in WEIGHT_SUFFIXES)


def find_checkpoint(name: str, revision: str | None = None) -> Checkpoint:
    """The checkpoint that `name` means; a hub id is downloaded into the hub's own cache.

    Raises:
        ModelError: nothing is there, or the hub can't give it.
    """
    path = Path(name).expanduser()
    if path.is_file():
        if path.suffix != ".gguf":
            raise ModelError(f"Expected a model directory, a hub id or a .gguf file, got the file {name}.")
        return Checkpoint(name, path.parent, path.name)
    if path.is_dir():
        return _local_directory(name, path)
    if name.startswith((".", "/", "~")) or path.suffix == ".gguf" or name.count("/") > 1:
        raise ModelError(f"No model at {name}: the path does not exist. Give a directory, a .gguf file or a hub id.")
    return Checkpoint(name, _download(name, revision), None, revision)


def _local_directory(name: str, path: Path) -> Checkpoint:
    if (path / "config.json").exists():
        return Checkpoint(name, path)
    ggufs = sorted(path.glob("*.gguf"))
    if len(ggufs) == 1:
        return Checkpoint(name, path, ggufs[0].name)
    found = f"{len(ggufs)} .gguf files" if ggufs else "neither config.json nor a .gguf file"
    raise ModelError(
        f"Expected a model in {name}: a directory with config.json, or with one .gguf file; found {found}. "
        "Name the .gguf file itself, or the directory that holds config.json."
    )


def _download(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    at = f" at revision {revision}" if revision else ""
    try:
        return Path(snapshot_download(name, revision=revision, ignore_patterns=["*.gguf", "*.pth", "original/*"]))
    except GatedRepoError as error:
        raise ModelError(
            f"{name} is gated on the hub: accept its terms on its page, then log in with `hf auth login`."
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"No model {name}{at}: it is neither a path here nor a repository of the hub that you can see. "
            "Check the spelling, or log in with `hf auth login` if it is private."
        ) from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise ModelError(
            f"{name} is not a path here, and fetching it{at} from the hub failed ({type(error).__name__}: "
            f"{str(error).splitlines()[0][:200]}). Check the name and the connection, or give a local path."
        ) from error
