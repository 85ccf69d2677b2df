"""Settings: what they are, how they are read, how flags and documentation follow from them."""

from .flags import add_flags, given_flags
from .measuring import MeasuringSettings
from .presets import PromptSources, ReportSources, resolve_prompts, resolve_report_prompts
from .renamed import renamed_keys
from .sections import (
    SECTIONS,
    DirectionSettings,
    EvaluationSettings,
    ExportSettings,
    ModelSettings,
    PromptSettings,
    SearchSettings,
)
from .settings import Settings
from .showing import ReportSettings
from .sources import load_settings, recorded_settings
from .types import Benchmark, PromptSource

__all__ = [
    "SECTIONS",
    "Benchmark",
    "DirectionSettings",
    "EvaluationSettings",
    "ExportSettings",
    "MeasuringSettings",
    "ModelSettings",
    "PromptSettings",
    "PromptSource",
    "PromptSources",
    "ReportSettings",
    "ReportSources",
    "SearchSettings",
    "Settings",
    "add_flags",
    "given_flags",
    "load_settings",
    "recorded_settings",
    "renamed_keys",
    "resolve_prompts",
    "resolve_report_prompts",
]
