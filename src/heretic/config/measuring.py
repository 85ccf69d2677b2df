"""Settings of the measurement at the end of a run, and of what else the search may count."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .section import Section
from .types import Metavar, Prompts, Text


class JudgeSource(BaseModel):
    """A judge of responses beside the two lists: a classifier of the hub or a directory, or an endpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classifier: str | None = Field(default=None, description="Text-classification model: a hub id or a directory.")
    endpoint: str | None = Field(default=None, description="OpenAI-compatible endpoint, as http://localhost:8000/v1.")
    model: str = Field(default="", description="Model to ask for at the endpoint.")
    key_variable: str = Field(default="OPENAI_API_KEY", description="Environment variable that holds its key.")
    reads: Literal["response", "pair"] = Field(
        default="response", description="What a classifier reads: the response, or the prompt and the response."
    )
    declined: list[Text] = Field(default=[], description="Labels of a classifier that mean declined.")
    broken: list[Text] = Field(default=[], description="Labels of a classifier that mean broken.")

    @property
    def name(self) -> str:
        return self.classifier or f"{self.model or 'model'} at {self.endpoint}"

    @model_validator(mode="after")
    def _one_kind(self) -> "JudgeSource":
        if (self.classifier is None) == (self.endpoint is None):
            raise ValueError("expected either `classifier` or `endpoint`")
        if self.classifier is not None and not self.declined:
            raise ValueError("expected the labels that mean declined, in `declined`")
        return self


class OverRefusalSettings(Section):
    """Declining what only looks harmful, as a third figure that the search minimises."""

    model_config = ConfigDict(title="Over-refusal in the search")

    over_refusal_objective: bool = Field(
        default=False,
        description="Search for few refusals of harmless prompts that look harmful too: a third objective.",
    )
    over_refusal_evaluation_prompts: Prompts = Field(
        default=None,
        description="Harmless prompts that look harmful, on which these are counted (packaged ones if not given).",
        examples=["path/to/harmless.txt"],
    )


class MeasuringSettings(Section):
    """What is measured of the front, once, on prompts that no search saw."""

    model_config = ConfigDict(title="Measurement at the end")

    heldout_trials: int = Field(
        default=10,
        ge=0,
        le=10,
        description="Trials of the front to measure at the end, with the model itself, on prompts that no search saw "
        "(0: none).",
    )
    heldout_response_length: int | None = Field(
        default=None,
        ge=1,
        description="Most tokens of a response there (max_response_length if not given; from 512 on, a response that "
        "does not end counts as broken).",
        examples=[512],
    )
    good_heldout_prompts: Prompts = Field(
        default=None, description="Prompts that do not trigger the behaviour, for the measurement at the end."
    )
    bad_heldout_prompts: Prompts = Field(
        default=None, description="Prompts that trigger the behaviour, for the measurement at the end."
    )
    over_refusal_heldout_prompts: Prompts = Field(
        default=None, description="Harmless prompts that look harmful, for the measurement at the end."
    )
    judges: Annotated[list[JudgeSource], Metavar("TABLES")] = Field(
        default=[],
        description="Judges of the responses there, beside the lists: models that classify texts, and endpoints.",
        examples=[[{"endpoint": "http://localhost:8000/v1", "model": "judge"}]],
    )
