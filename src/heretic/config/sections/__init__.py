"""The settings by stage, one file a heading of config.default.toml. A stage takes its own section."""

from .base import Section
from .chat_template import ChatTemplateSettings
from .cluster import ClusterSettings
from .directions import DirectionSettings
from .engine import EngineSettings
from .evaluation import EvaluationSettings
from .export import ExportSettings
from .heldout import HeldoutSettings, JudgeSource
from .model import ModelSettings
from .plots import PlotSettings
from .prompts import PromptSettings
from .search import SearchSettings

SECTIONS: tuple[type[Section], ...] = (
    ModelSettings,
    PromptSettings,
    ChatTemplateSettings,
    DirectionSettings,
    EvaluationSettings,
    SearchSettings,
    HeldoutSettings,
    ExportSettings,
    PlotSettings,
    EngineSettings,
    ClusterSettings,
)

__all__ = [
    "SECTIONS",
    "ChatTemplateSettings",
    "ClusterSettings",
    "DirectionSettings",
    "EngineSettings",
    "EvaluationSettings",
    "ExportSettings",
    "HeldoutSettings",
    "JudgeSource",
    "ModelSettings",
    "PlotSettings",
    "PromptSettings",
    "SearchSettings",
    "Section",
]
