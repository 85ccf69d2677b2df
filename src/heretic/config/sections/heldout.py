"""[Held-out evaluation] What is measured once, after the search, on prompts that it did not use."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..defaults import REFUSAL_OPENINGS
from ..types import Metavar, Prompts, Text
from .base import Section


class JudgeSource(BaseModel):
    """A judge of responses in addition to the word lists: a text classifier or an OpenAI-compatible endpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classifier: str | None = Field(default=None, description="Text-classification model: a hub id or a directory.")
    endpoint: str | None = Field(
        default=None, description="OpenAI-compatible endpoint, such as http://localhost:8000/v1."
    )
    model: str = Field(default="", description="Model to ask for at the endpoint.")
    key_variable: str = Field(
        default="OPENAI_API_KEY", description="Environment variable that holds the endpoint's API key."
    )
    reads: Literal["response", "pair"] = Field(
        default="response", description="Input of a classifier: the response, or the pair of prompt and response."
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


class HeldoutSettings(Section):
    """The evaluation of the Pareto front on held-out prompts, once, after the search."""

    model_config = ConfigDict(title="Held-out evaluation")

    heldout_trials: int = Field(
        default=10,
        ge=0,
        le=10,
        description="Trials of the Pareto front to evaluate on held-out prompts after the search, with the baseline; "
        "0 leaves it out. Where trial selects one without asking, that one alone is evaluated unless this is given.",
    )
    heldout_response_length: int | None = Field(
        default=None,
        ge=1,
        description="Tokens to generate per held-out response; max_response_length by default. From 512 on, a "
        "response that does not end counts as broken.",
        examples=[512],
    )
    good_heldout_prompts: Prompts = Field(
        default=None, description="Held-out prompts that do not trigger the behaviour."
    )
    bad_heldout_prompts: Prompts = Field(default=None, description="Held-out prompts that trigger the behaviour.")
    over_refusal_heldout_prompts: Prompts = Field(
        default=None, description="Held-out harmless prompts that look harmful."
    )
    refusal_openings: list[Text] = Field(
        default=list(REFUSAL_OPENINGS),
        description="A held-out response that begins with one of these texts is classified as declined. Adapt them "
        "to the language of the prompts.",
    )
    judges: Annotated[list[JudgeSource], Metavar("TABLES")] = Field(
        default=[],
        description="Judges of the held-out responses in addition to the word lists: text classifiers and "
        "OpenAI-compatible endpoints.",
        examples=[[{"endpoint": "http://localhost:8000/v1", "model": "judge"}]],
    )
