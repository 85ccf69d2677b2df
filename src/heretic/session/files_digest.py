"""The digest of all bytes of a model's files: measured when a study begins, compared whenever it is used again."""

from ..errors import ExportError
from ..events import Reporter
from ..model.loading.checkpoint import Checkpoint
from ..model.loading.digest import covered_files, unread_bytes, whole_digest

SHOWN_FROM = 2 * 10**9
"""Bytes: fewer take a few seconds at most."""


def files_digest(checkpoint: Checkpoint, reporter: Reporter) -> str:
    """SHA-256 of all bytes of the weights, config.json and code. Only files that changed since are read."""
    if unread_bytes(checkpoint) < SHOWN_FROM:
        return whole_digest(checkpoint)
    with reporter.step(f"Digest of the files of {checkpoint.name}", len(covered_files(checkpoint))) as progress:
        return whole_digest(checkpoint, progress)


def check_files(checkpoint: Checkpoint, recorded: str | None, source: str, reporter: Reporter) -> None:
    """Checks that all bytes of a model's files are those of a record. Records of earlier versions have no such digest
    (None).

    Raises:
        ExportError: they are not.
    """
    if recorded is not None and (found := files_digest(checkpoint, reporter)) != recorded:
        raise ExportError(
            f"Expected the model files that {source} was recorded with in {checkpoint.name}, but weights, config.json "
            f"or code have changed since (SHA-256 {recorded[:16]}... then, {found[:16]}... now). Restore them, or run "
            "the study again."
        )
