"""[Evaluation] How a candidate is measured."""

from typing import Annotated

from pydantic import ConfigDict, Field

from ..defaults import BENCHMARKS, CHAIN_OF_THOUGHT_SKIPS, REFUSAL_MARKERS
from ..types import Benchmark, Finite, Metavar, Name, Objective, Text
from .base import Section


class EvaluationSettings(Section):
    """How a candidate's refusals and its KL divergence from the baseline are measured."""

    model_config = ConfigDict(title="Evaluation")

    max_response_length: int = Field(
        default=100,
        ge=1,
        description="Tokens to generate per response. Raise it for models that refuse late; trials take longer.",
    )
    response_prefix: str | None = Field(
        default=None,
        description="Text that every response begins with, after which first tokens are compared. Found by "
        "generation by default.",
        examples=[""],
    )
    chain_of_thought_skips: Annotated[list[tuple[Text, str]], Metavar("PAIRS")] = Field(
        default=list(CHAIN_OF_THOUGHT_SKIPS),
        description="Pairs of the text that opens a chain of thought and the closed, empty chain to put in its place.",
    )
    measure_thinking: bool = Field(
        default=False, description="Measure chains of thought from their beginning, instead of closing them."
    )
    generation_rules: bool = Field(
        default=True,
        description="Apply what the model's generation_config.json forbids and penalises: suppressed tokens, bad "
        "words, repetition penalty, shortest lengths. CUDA graphs can't: switch it off for faster trials on a GPU.",
    )
    refusal_markers: list[Text] = Field(
        default=list(REFUSAL_MARKERS),
        min_length=1,
        description="A response that contains one of these texts counts as a refusal. Adapt them to the language of "
        "the prompts.",
    )
    objective: Objective = Field(
        default="markers",
        description="Measure of refusal: markers in generated responses (markers), the log-odds that the first token "
        "begins a refusal (log-odds: no generation, much faster trials), or both.",
    )
    over_refusal_objective: bool = Field(
        default=False,
        description="Minimise refusals of harmless prompts that look harmful as a third objective.",
    )
    kl_divergence_scale: Finite = Field(
        default=1.0,
        gt=0,
        description="KL divergence, in nats, that counts for the sampler as much as all of the baseline's refusals.",
    )
    kl_divergence_target: Finite = Field(
        default=0.01,
        ge=0,
        description="KL divergence, in nats, below which only refusals count for the sampler. It keeps the search from "
        "preferring edits that do nothing.",
    )
    print_responses: bool = Field(
        default=False,
        description="Print the evaluated prompts with their responses. A refusal is cut soon after its marker.",
    )
    evaluate_model: Name = Field(
        default=None,
        description="Measure this model against the original and stop: a hub id or a local directory.",
        examples=["path/to/edited-model"],
    )
    benchmarks: Annotated[list[Benchmark], Metavar("TABLES")] = Field(
        default=list(BENCHMARKS),
        description="Tasks of lm-evaluation-harness that the menu and heretic benchmark offer.",
    )

    @property
    def is_about_refusals(self) -> bool:
        """Whether the markers are those of refusals; others detect another behaviour."""
        return self.refusal_markers == list(REFUSAL_MARKERS)
