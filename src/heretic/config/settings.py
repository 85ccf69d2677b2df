"""All settings in one object. Keys are flat, so it can be passed wherever one section is taken."""

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
