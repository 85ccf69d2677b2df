"""Upload of an export to Hugging Face."""

from pathlib import Path

from ..errors import ExportError
from ..events import Reporter
from ..export.hub import check_login, check_repository, left_out, upload, upload_files

SHOWN = 5
"""Names of files in one line."""


def check_upload(repository: str) -> None:
    """Checks name and login of an upload, before hours of work go into the export.

    Raises:
        ExportError: one of them is missing.
    """
    check_repository(repository)
    check_login()


def upload_directory(directory: Path, repository: str, public: bool, reporter: Reporter) -> None:
    """Uploads an export, and says where it is.

    Raises:
        ExportError: it can't be uploaded; the repository's files are as they were.
    """
    check_repository(repository)
    count = len(upload_files(directory))
    others = left_out(directory)
    if others:
        more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
        reporter.say(f"Not sent, since the export did not write them: {', '.join(others[:SHOWN])}{more}.")
    try:
        with reporter.step(f"Uploading {directory} to {repository}", count) as progress:
            done = upload(directory, repository, public, "Upload a model made with heretic", progress)
    except ExportError as error:
        raise ExportError(
            f"{error} The export stays in {directory}. Try again with: heretic upload {directory} {repository}"
        ) from error
    reporter.say(f"Uploaded: {done.url} (commit {done.commit[:8]})")
