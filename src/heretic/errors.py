"""Errors that a user can fix: one paragraph (expected, got, what to do), exit status 2, no traceback."""

import errno


class UserError(Exception):
    """The input or the environment is wrong; the text says what was expected, and what to do."""


class ConfigError(UserError):
    """A key or value of the configuration is unknown or out of range."""


class PromptError(UserError):
    """A prompt set is missing, empty, too short or too long."""


class ModelError(UserError):
    """A model can't be loaded, has no chat template, or has weights that write to the stream and were not found."""


class NoMemoryError(ModelError):
    """Not even one row of one candidate fits the memory."""


class NoGradientError(ModelError):
    """Edits of a model can't be learned; `reason` is the part of the sentence that says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f'Expected a model in which gradients reach the edits, but {reason}. Use method = "kernel" or "oblique".'
        )
        self.reason = reason

    def __reduce__(self) -> tuple[type["NoGradientError"], tuple[str]]:
        """Pickled by its reason: an actor's error is raised in the driver."""
        return type(self), (self.reason,)


class StudyError(UserError):
    """A recorded study is missing, damaged, in use, or belongs to another model, prompts or settings."""


class ExportError(UserError):
    """A model can't be written, or the written model's metrics differ from those of the search."""


class BenchmarkError(UserError):
    """A benchmark is unknown, its data can't be obtained, or the harness is not installed."""


class ClusterError(UserError):
    """A cluster can't be joined, has no room for the model, or its last actor is gone."""


class CandidateError(Exception):
    """One candidate can't be measured (NaN logits, say): its trial fails with this reason, and the search continues."""


REMEDIES = {
    errno.ENOSPC: "make room on the disk, or name a place on another one",
    errno.EDQUOT: "make room within your quota, or name a place on another disk",
    errno.EFBIG: "the file may grow no further there (a limit of the shell or of the file system)",
    errno.EACCES: "name a place that you may read and write",
    errno.EPERM: "name a place that you may read and write",
    errno.EROFS: "the file system is mounted read-only: name a place elsewhere",
    errno.ENOTDIR: "a file is where a directory is expected: rename it, or name another place",
    errno.EISDIR: "a directory is where a file is expected: rename it, or name another place",
    errno.ENAMETOOLONG: "name a shorter path",
    errno.EIO: "the disk or the network drive fails: check it, and run the same command again",
    errno.EMFILE: "too many files are open: raise the limit (ulimit -n)",
    errno.ENOSYS: "the file system lacks an operation: name a place on a local disk",
    errno.ENOLCK: "the file system has no locks: name a place on a local disk",
    errno.EOPNOTSUPP: "the file system lacks an operation: name a place on a local disk",
    errno.ENOTCONN: "the network drive is gone: connect it again, and run the same command again",
    errno.ESTALE: "the network drive is gone: connect it again, and run the same command again",
}
"""Advice for system errors that are not bugs of this program."""


def system_paragraph(error: OSError) -> str | None:
    """One paragraph for an error of the user's machine; None for one that may be a bug of this program."""
    remedy = REMEDIES.get(error.errno or 0)
    if remedy is None:
        return None
    where = f"{error.filename}: " if error.filename is not None else ""
    return f"The system refused to read or write ({where}{error.strerror}): {remedy}. What was finished is kept."
