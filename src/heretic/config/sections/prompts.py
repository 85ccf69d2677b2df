"""[Prompts] Prompt sets of the directions and of the search."""

from pydantic import ConfigDict, Field

from ..types import Preset, Prompts, SystemPrompt
from .base import Section


class PromptSettings(Section):
    """Prompts from which the directions are computed, and prompts on which the search evaluates candidates."""

    model_config = ConfigDict(title="Prompts")

    preset: Preset = Field(
        default="refusal",
        description="Prompt sets for the keys below that are not given: packaged sets (refusal, disclaimer, "
        "over-refusal) or public sets of the hub (hub).",
    )
    system_prompt: SystemPrompt = Field(
        default="You are a helpful assistant.",
        description="System prompt of all prompts; none leaves it to the chat template.",
    )
    good_prompts: Prompts = Field(
        default=None, description="Prompts that do not trigger the behaviour, from which the directions are computed."
    )
    bad_prompts: Prompts = Field(
        default=None, description="Prompts that trigger the behaviour, from which the directions are computed."
    )
    good_evaluation_prompts: Prompts = Field(
        default=None,
        description="Prompts that do not trigger the behaviour, on which the search measures the KL divergence.",
    )
    bad_evaluation_prompts: Prompts = Field(
        default=None, description="Prompts that trigger the behaviour, on which the search counts refusals."
    )
    over_refusal_evaluation_prompts: Prompts = Field(
        default=None,
        description="Harmless prompts that look harmful, on which the search counts over-refusals "
        "(over_refusal_objective). A packaged set by default.",
        examples=["path/to/harmless.txt"],
    )
