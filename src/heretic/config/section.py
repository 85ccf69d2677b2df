"""What all sections of the settings are."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Settings of one stage. The title of its config heads its flags and its part of config.default.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
