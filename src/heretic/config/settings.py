"""All settings as one object. Keys are flat, so it can be passed wherever one section is taken."""

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from .measuring import MeasuringSettings, OverRefusalSettings
from .sections import (
    DirectionSettings,
    EvaluationSettings,
    ExportSettings,
    ModelSettings,
    PromptSettings,
    SearchSettings,
)
from .showing import ReportSettings

# Keys of heretic-llm 1.4.0 that have another name here, and those that have no meaning, with the reason.
RENAMED = {"export_strategy": "export"}
WITHOUT_MEANING = {
    "full_normalization_lora_rank": "an adapter for row_normalization = full is exact here at rank 1",
}
# Keys that nothing follows from in this release, with what happens instead.
WITHOUT_EFFECT = {
    "offload_outputs_to_cpu": "residuals and log-probabilities are always kept in RAM",
}


class Settings(
    ModelSettings,
    PromptSettings,
    DirectionSettings,
    EvaluationSettings,
    OverRefusalSettings,
    SearchSettings,
    MeasuringSettings,
    ExportSettings,
    ReportSettings,
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
