"""The method of a run, as far as its settings and its study determine it before the model is loaded."""

from ..config import Settings
from ..study.schema import StudyRecord

OF_A_SAMPLER = frozenset(
    {"sampler", "n_startup_trials", "n_ei_candidates", "literature_trials", "order_startup_trials", "warm_start"}
    | {"row_normalization"}
)
"""Settings without effect on learned edits: whoever gives one, but no method, wants the kernel method."""


def kernel_reason(settings: Settings) -> str | None:
    """Why `auto` takes the method `kernel` whatever the model is, as a clause, or None."""
    given = OF_A_SAMPLER & settings.model_fields_set
    if given and "method" not in settings.model_fields_set:
        return f"{', '.join(sorted(given))} {'is' if len(given) == 1 else 'are'} given"
    if settings.storage is not None:
        return "several runs share the study, and each step of a learned path follows from the one before"
    return None


def recorded_method(record: StudyRecord) -> str:
    """The method of a study; records without one are from when `kernel` was the only one."""
    return str(record.settings.get("method", "kernel"))


def expected_method(settings: Settings, record: StudyRecord | None) -> str:
    """The method that the run will have if its model lets edits be learned."""
    if settings.method != "auto":
        return settings.method
    if record is not None:
        return recorded_method(record)
    return "learned" if kernel_reason(settings) is None else "kernel"
