"""Errors that a user can mend: one paragraph (expected, got, what to do), exit status 2, no traceback."""


class UserError(Exception):
    """Something outside this program is not as it must be; the text says what, and what to do."""


class ConfigError(UserError):
    """A key or value of the configuration is unknown or out of range."""


class PromptError(UserError):
    """A prompt set is missing, empty, too short or too long."""


class ModelError(UserError):
    """A model can't be loaded, or has no chat template, or writes where we cannot see it."""


class StudyError(UserError):
    """A recorded study is missing, damaged, in use, or belongs to another model, prompts or settings."""


class ExportError(UserError):
    """A model can't be written, or what was written does not measure as what was searched."""


class BenchmarkError(UserError):
    """A benchmark is unknown, its data can't be had, or the harness is not installed."""


class CandidateError(Exception):
    """One candidate could not be measured (NaN logits, say): its trial fails with this reason, the search goes on."""
