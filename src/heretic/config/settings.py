"""All settings in one object. Keys are flat, so it can be passed wherever one section is taken."""

from collections.abc import Mapping
from typing import Any

from pydantic import model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from .sections import (
    ChatTemplateSettings,
    ClusterSettings,
    DirectionSettings,
    EngineSettings,
    EvaluationSettings,
    ExportSettings,
    HeldoutSettings,
    ModelSettings,
    PlotSettings,
    PromptSettings,
    SearchSettings,
)

OF_A_SAMPLER = frozenset(
    {
        *("sampler", "n_startup_trials", "n_ei_candidates", "literature_trials", "warm_start"),
        *("prune_dominated", "order_startup_trials"),
    }
)
"""Settings of methods whose candidates a sampler draws."""


class Settings(
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
    BaseSettings,
):
    """Every setting. `load_settings` reads the world; constructing this reads nothing."""

    model_config = SettingsConfigDict(
        title="Settings",
        frozen=True,
        extra="forbid",
        validate_default=True,
        env_prefix="HERETIC_",
        enable_decoding=False,
    )

    @model_validator(mode="before")
    @classmethod
    def _sample_where_a_sampler_is_set(cls, given: Any) -> Any:
        """The method kernel, unless another one is given, for whoever sets up a sampler: learned edits have none."""
        if isinstance(given, Mapping) and "method" not in given and not OF_A_SAMPLER.isdisjoint(given):
            return {**given, "method": "kernel"}
        return given

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # `load_settings` merges the sources itself: it must know which of them a bad value came from.
        return (init_settings,)
