"""An export on its way to the hub."""

from pathlib import Path

from ..errors import ExportError
from ..events import Reporter
from ..export.hub import check_login, check_repository, upload, upload_files


def check_upload(repository: str) -> None:
    """That an upload has a name and a login, before hours of work go into what it would upload.

    Raises:
        ExportError: one of them is missing.
    """
    check_repository(repository)
    check_login()


def upload_directory(directory: Path, repository: str, public: bool, reporter: Reporter) -> None:
    """Uploads what an export wrote, and says where it is.

    Raises:
        ExportError: it can't be uploaded; the repository's files are as they were.
    """
    count = len(upload_files(directory))
    try:
        with reporter.step(f"Uploading {directory} to {repository}", count) as progress:
            done = upload(directory, repository, public, "Upload a model made with heretic", progress)
    except ExportError as error:
        raise ExportError(
            f"{error} What was written stays in {directory}; heretic upload {directory} {repository} goes on."
        ) from error
    reporter.say(f"Uploaded: {done.url} (commit {done.commit[:8]})")
