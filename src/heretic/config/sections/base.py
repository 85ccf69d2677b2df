"""The base class of all sections."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Settings of one stage. Its title heads its flags and its part of config.default.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
