"""Models from the Hugging Face hub, pinned to a commit."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import ModelError
from ...files import expand_home
from .checkpoint import Checkpoint, gguf_parts, near_names
from .download import shown_download

if TYPE_CHECKING:
    from ...events import Reporter

# The same weights in other formats, some as large as the model.
OTHER_FORMATS = (
    *("*.gguf", "*.pth", "*.pt", "*.ckpt", "*.h5", "*.msgpack", "*.onnx", "*.onnx_data", "*.tflite", "*.ot"),
    *("original/*", "onnx/*", "openvino/*", "coreml/*"),
)
COMMIT = re.compile(r"[0-9a-f]{40}")
SECONDS = 10.0
"""The hub's answer to one request takes less than a second. Without a network the request fails at once, behind a
firewall that drops it after this time."""
BUSY, BROKEN = 429, 500
"""The status of a hub that gets too many requests, and the first of its own errors: the request is sent again."""


def download_model(name: str, revision: str | None, reporter: "Reporter | None" = None) -> tuple[Path, str | None]:
    """Directory and commit of a downloaded model; only safetensors where there are `.bin` weights too.

    Raises:
        ModelError: the hub can't deliver it, it holds no model other than GGUF files, or it is quantised in a way that
            this installation can't read.
    """
    from huggingface_hub import hf_hub_download, snapshot_download

    from .quantization import check_readable

    with _hub_errors(name, revision):
        files = _files(name, revision, lambda: _cached(name, revision))
        if files is None:
            directory = _cached(name, revision)
            files = [path.name for path in directory.iterdir()]
        else:
            if "config.json" in files:
                # Before gigabytes of weights.
                check_readable(Checkpoint(name, Path(hf_hub_download(name, "config.json", revision=revision)).parent))
            with shown_download(name, name, revision, reporter):
                directory = Path(snapshot_download(name, revision=revision, ignore_patterns=_ignored(files)))
    ggufs = sorted(file for file in files if file.endswith(".gguf"))
    if ggufs and not (directory / "config.json").exists():
        raise ModelError(
            f"Expected one model in {name}, but it holds GGUF files alone. Name one of them: "
            f"{', '.join(f'{name}/{file}' for file in ggufs[:4])}{', ...' if len(ggufs) > 4 else ''}."
        )
    return directory, _commit(directory)


def _cached(name: str, revision: str | None) -> Path:
    """The repository's directory in the hub's cache.

    Raises:
        LocalEntryNotFoundError: the cache does not hold all of it.
    """
    from huggingface_hub import snapshot_download

    def without(*ignored: str) -> Path:
        return Path(snapshot_download(name, revision=revision, ignore_patterns=[*ignored], local_files_only=True))

    # Of weights in two formats, the cache has one.
    directory = without(*OTHER_FORMATS, "*.bin")
    return directory if any(directory.glob("*.safetensors")) else without(*OTHER_FORMATS)


def wanted_files(files: list[str]) -> list[str]:
    """The repository's files to download."""
    return [file for file in files if not any(fnmatch(file, pattern) for pattern in _ignored(files))]


def _ignored(files: list[str]) -> list[str]:
    return [*OTHER_FORMATS, *(["*.bin"] if any(file.endswith(".safetensors") for file in files) else [])]


def download_file(
    name: str, file: str, revision: str | None, reporter: "Reporter | None" = None
) -> tuple[Path, str | None]:
    """Path and commit of a GGUF file of a repository. Of a split one all parts are downloaded.

    Raises:
        ModelError: the hub can't give it.
    """
    from huggingface_hub import hf_hub_download

    parts = [part.as_posix() for part in gguf_parts(Path(file))]

    def cached() -> list[str]:
        # Without this argument, a failed connection is tried again for 23 seconds.
        return [hf_hub_download(name, part, revision=revision, local_files_only=True) for part in parts]

    with _hub_errors(name, revision, file):
        if _files(name, revision, cached) is None:
            paths = cached()
        else:
            with shown_download(f"{name}/{file}", name, revision, reporter):
                paths = [hf_hub_download(name, part, revision=revision) for part in parts]
    path = Path(paths[parts.index(file)])
    return path, _commit(path)


def _files(name: str, revision: str | None, cached: Callable[[], object]) -> list[str] | None:
    """Names of the repository's files; None where the hub can't be reached, so that only the cache counts, or where it
    fails and `cached` finds all that is needed.

    A failed connection is not tried again: `list_repo_files` would wait 23 seconds before it says that there is none.
    """
    from huggingface_hub import HfApi, list_repo_files

    # huggingface_hub changes its HTTP library between releases, but not the name under which it exports the errors.
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        found = HfApi().model_info(name, revision=revision, timeout=SECONDS)
    except HfHubHTTPError as error:
        if error.response.status_code not in (BUSY, *range(BROKEN, 600)):
            raise
        try:
            return list_repo_files(name, revision=revision)
        except HfHubHTTPError as failure:
            try:
                cached()
            except LocalEntryNotFoundError:
                raise failure from None
            return None
    except (HTTPError, OfflineModeIsEnabled):
        return None
    return [each.rfilename for each in found.siblings or ()]


def _commit(path: Path) -> str | None:
    """The commit that a path in the hub's cache belongs to (.../snapshots/COMMIT/...)."""
    return next((part for part in reversed(path.parts) if COMMIT.fullmatch(part)), None)


@contextmanager
def _hub_errors(name: str, revision: str | None, file: str | None = None) -> Iterator[None]:
    """Converts errors of the hub's library to a ModelError that says what to do."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    at = f" at revision {revision}" if revision else ""
    near = near_names(expand_home(name))
    try:
        yield
    except GatedRepoError as error:
        raise ModelError(
            f"{name} is gated on the hub: accept its terms on its page, then log in with `hf auth login`."
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"No model {name}{at}: it is neither a path here{near} nor a repository of the hub that you can see. "
            "Check the spelling, or log in with `hf auth login` if it is private."
        ) from error
    except RevisionNotFoundError as error:
        raise ModelError(
            f"{name} is on the hub, but has no revision {revision}. Give a branch, a tag or a commit of it "
            "(model_commit), or leave it out."
        ) from error
    except LocalEntryNotFoundError as error:
        raise ModelError(
            f"{name} is not a path here{near}, the hub's cache{at} does not hold all of it, and the hub can't be "
            "reached. Check the name, the connection and HF_HUB_OFFLINE, or give a local path."
        ) from error
    except EntryNotFoundError as error:
        raise ModelError(
            f"{name} is on the hub, but holds no {file or 'such file'}{at}. Check the name on its page."
        ) from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        lines = str(error).strip().splitlines() or [""]
        raise ModelError(
            f"{name} is not a path here{near}, and fetching it{at} from the hub failed ({type(error).__name__}: "
            f"{lines[0][:200]}). Check the name and the connection, or give a local path."
        ) from error
