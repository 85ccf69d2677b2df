"""Settings of the measurement at the end of a run."""

from pydantic import ConfigDict, Field

from .section import Section
from .values import Prompts


class MeasuringSettings(Section):
    """What is measured of the front, once, on prompts that no search saw."""

    model_config = ConfigDict(title="Measurement at the end")

    report_candidates: int = Field(
        default=10,
        ge=0,
        le=10,
        description="Trials of the front to measure at the end, with the model itself, on prompts that no search saw "
        "(0: none).",
    )
    report_response_length: int | None = Field(
        default=None,
        ge=1,
        description="Most tokens of a response there (max_response_length if not given; from 512 on, a response that "
        "does not end counts as broken).",
        examples=[512],
    )
    good_report_prompts: Prompts = Field(
        default=None, description="Prompts that do not trigger the behaviour, for the measurement at the end."
    )
    bad_report_prompts: Prompts = Field(
        default=None, description="Prompts that trigger the behaviour, for the measurement at the end."
    )
    over_refusal_prompts: Prompts = Field(
        default=None, description="Harmless prompts that look harmful, for the measurement at the end."
    )
