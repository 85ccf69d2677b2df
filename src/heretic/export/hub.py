"""Upload of an exported directory to the Hugging Face hub, in one commit.

All files are sent first and become visible with the commit alone: an upload that fails or is stopped leaves the
repository as it was, at worst an empty new one, and what was sent is not sent again the next time.
"""

import re
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ExportError
from .companions import WEIGHT_SUFFIXES
from .manifest import MANIFEST, listed_files

if TYPE_CHECKING:
    from huggingface_hub import HfApi

REPOSITORY = re.compile(r"[\w.-]+(?:/[\w.-]+)?")
TOKEN = re.compile(r"hf_\w+")
STATUS_HELP = {
    401: "log in with `hf auth login`, or set HF_TOKEN to a token that may write",
    402: "the account's plan does not cover this: look at its billing page",
    403: "use a token that may write to this name, from the account or organisation that owns it",
    404: "check the name of the owner",
    409: "somebody else is changing this repository: wait and start the upload again",
    413: "the hub takes no files of that size: export again with a smaller --max-shard-size",
    429: "the hub asks for a pause: start the upload again later",
    507: "the account's storage is full: make room there",
}
EXPORTED = frozenset(
    {
        *("README.md", MANIFEST, "config.json", "generation_config.json", "adapter_config.json", "LICENSE"),
        *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.model"),
        *("vocab.json", "vocab.txt", "merges.txt", "preprocessor_config.json", "processor_config.json"),
        *("chat_template.json", "video_preprocessor_config.json"),
    }
)
"""Names of the files of an export that are no weights, code or templates."""
AGAIN = "start the same upload again: files that arrived are not sent twice"


@dataclass(frozen=True, slots=True)
class Uploaded:
    """The progress of an upload."""

    repository: str
    url: str
    commit: str


def check_repository(name: str) -> None:
    """Raises:
    ExportError: the hub could never have a repository of that name.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        if REPOSITORY.fullmatch(name) is None:
            raise HFValidationError("letters, digits, '-', '_' and '.', and one '/' after the owner")
        validate_repo_id(name)
    except HFValidationError as error:
        raise ExportError(f"Expected a repository of the hub, OWNER/NAME, got {name!r} ({error}).") from error


def check_login() -> str:
    """The name of the account that the token belongs to; the token is the environment's or the hub's own login.

    Raises:
        ExportError: there is no token, or the hub does not know it.
    """
    from huggingface_hub import HfApi, get_token

    if get_token() is None:
        raise ExportError(
            "Expected a login for the hub, found none. Log in with `hf auth login`, or set HF_TOKEN to a token that "
            "may write."
        )
    with _hub_errors("The hub"):
        return str(HfApi().whoami()["name"])


def upload(directory: Path, repository: str, public: bool, message: str, progress: Callable[[int], None]) -> Uploaded:
    """Uploads the files of `directory`; `progress` is called with 1 for each of them.

    A repository that is new becomes private unless `public`; one that exists keeps what it is. Weights of an earlier
    upload that are not among the new files are removed by the same commit.

    Raises:
        ExportError: it can't be done; the repository's files are as they were.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    check_repository(repository)
    files = upload_files(directory)
    owner = check_login()
    repository = repository if "/" in repository else f"{owner}/{repository}"
    api = HfApi()
    with _hub_errors(repository):
        api.create_repo(repository, private=not public, exist_ok=True)
        info = api.model_info(repository)
        new = {path.relative_to(directory).as_posix() for path in files}
        stale = [
            each.rfilename for each in info.siblings or [] if each.rfilename not in new and is_weights(each.rfilename)
        ]
        additions = []
        for path in files:
            addition = CommitOperationAdd(path.relative_to(directory).as_posix(), path)
            # One at a time: the sum of what goes wrong, and how far it is, is then known by file.
            api.preupload_lfs_files(repository, [addition], free_memory=False)
            additions.append(addition)
            progress(1)
        operations: list[Any] = [*additions, *(CommitOperationDelete(name) for name in stale)]
        commit = api.create_commit(repository, operations, commit_message=message, parent_commit=info.sha)
    return Uploaded(repository, _url(api, repository), str(commit.oid))


def upload_files(directory: Path) -> list[Path]:
    """The files to upload: those that the export's heretic.json lists, without hidden ones.

    Exports of earlier versions list none: of them, files with names that an export has.

    Raises:
        ExportError: `directory` holds no export, or a link.
    """
    if not directory.is_dir():
        raise ExportError(f"Expected a directory that heretic wrote, but {directory} is none.")
    known = any((directory / name).is_file() for name in ("config.json", "adapter_config.json"))
    if not known and not any(directory.glob("*.gguf")):
        raise ExportError(
            f"Expected a model or adapter in {directory}, found neither config.json, adapter_config.json nor a .gguf "
            "file. Name the directory that an export wrote."
        )
    if not (directory / MANIFEST).is_file():
        raise ExportError(
            f"Expected a model or adapter that heretic wrote in {directory}, found no {MANIFEST}, which lists "
            "the files of an export. Upload another model with: hf upload."
        )
    found = _all_files(directory)
    links = [path for path in found if path.is_symlink()]
    if links:
        raise ExportError(
            f"Expected files that heretic wrote in {directory}, but {links[0]} is a link, and what it points to would "
            "be sent. Remove it, or put the file itself there."
        )
    return [path for path in found if _is_sent(path.relative_to(directory), listed_files(directory))]


def left_out(directory: Path) -> list[str]:
    """The files of an export's directory that an upload does not send, since the export did not write them."""
    sent = set(upload_files(directory))
    return [path.relative_to(directory).as_posix() for path in _all_files(directory) if path not in sent]


def _all_files(directory: Path) -> list[Path]:
    return [path for path in sorted(directory.rglob("*")) if path.is_symlink() or path.is_file()]


def _is_sent(path: Path, listed: Container[str] | None) -> bool:
    if any(part.startswith(".") for part in path.parts):
        return False
    return path.as_posix() in listed if listed is not None else _is_exports_name(path)


def _is_exports_name(path: Path) -> bool:
    """Whether an export of an earlier version may have written a file of that name."""
    return path.name in EXPORTED or path.suffix in (*WEIGHT_SUFFIXES, ".py", ".jinja") or is_weights(path.name)


def is_weights(name: str) -> bool:
    """Whether a file of the hub belongs to a model's weights: their files and their index."""
    path = Path(name)
    return path.suffix in WEIGHT_SUFFIXES or name.endswith(".index.json")


def _url(api: "HfApi", repository: str) -> str:
    return f"{api.endpoint}/{repository}"


@contextmanager
def _hub_errors(what: str) -> Iterator[None]:
    """Failures of the hub or the line to it as one paragraph.

    Raises:
        ExportError: in their place.
    """
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    try:
        yield
    # Uploads of large files wrap what went wrong in a RuntimeError; a malformed answer or card is a ValueError.
    except (HTTPError, RuntimeError, ValueError, OSError) as error:
        cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
        if isinstance(cause, HfHubHTTPError):
            status = cause.response.status_code
            said = f"the hub answered {status}: {_clean(cause.server_message or _first_line(cause))}"
            help_text = STATUS_HELP.get(status, AGAIN)
        else:
            said, help_text = (
                f"{type(cause).__name__}: {_clean(_first_line(cause))}",
                f"check the connection, then {AGAIN}",
            )
        # `from None`: what the library says may hold headers.
        raise ExportError(f"{what} did not take the upload ({said}); {help_text}.") from None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _clean(text: str) -> str:
    """At most 300 characters, without anything that looks like a token, whoever put it there."""
    return TOKEN.sub("hf_...", text)[:300].rstrip(". ")
