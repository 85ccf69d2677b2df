"""Settings: what they are, how they are read, how flags and documentation follow from them."""

from .flags import add_flags, given_flags
from .presets import HeldoutSources, PromptSources, resolve_heldout_prompts, resolve_prompts
from .renamed import renamed_keys
from .sections import (
    SECTIONS,
    ChatTemplateSettings,
    ClusterSettings,
    DirectionSettings,
    EngineSettings,
    EvaluationSettings,
    ExportSettings,
    HeldoutSettings,
    JudgeSource,
    ModelSettings,
    PlotSettings,
    PromptSettings,
    SearchSettings,
)
from .settings import Settings
from .sources import load_settings, recorded_settings
from .types import Benchmark, ExportName, PromptSource, StaticDecode

__all__ = [
    "SECTIONS",
    "Benchmark",
    "ChatTemplateSettings",
    "ClusterSettings",
    "DirectionSettings",
    "EngineSettings",
    "EvaluationSettings",
    "ExportName",
    "ExportSettings",
    "HeldoutSettings",
    "HeldoutSources",
    "JudgeSource",
    "ModelSettings",
    "PlotSettings",
    "PromptSettings",
    "PromptSource",
    "PromptSources",
    "SearchSettings",
    "Settings",
    "StaticDecode",
    "add_flags",
    "given_flags",
    "load_settings",
    "recorded_settings",
    "renamed_keys",
    "resolve_heldout_prompts",
    "resolve_prompts",
]
