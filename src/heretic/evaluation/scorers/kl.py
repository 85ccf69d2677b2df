"""KL divergence between next-token distributions."""

from collections.abc import Mapping, Sequence

from ...ablation.edit import ModelEdit
from ...config import EvaluationSettings
from ...engine.divergence import kl_divergence
from ...errors import CandidateError, ModelError
from ...prompts.prompt import Prompt
from ...study.metrics import BaselineMetric
from ..heldout.schema import KLStatistics, ModelMetrics
from .base import BaselineMeasurement, Measurement, PromptSets, Scorer, ScoringRun


class KLDivergence(Scorer):
    """Mean KL divergence of the first response token to the good prompts from the baseline's, in nats."""

    name = "kl_divergence"
    label = "KL"
    title = "KL divergence at the first token (nats)"
    needs_baseline = True
    previews = "fully"

    def __init__(self, prompts: Sequence[Prompt], scale: float = 1.0, target: float = 0.01) -> None:
        self._prompts = prompts
        self._scale = scale
        self._target = target

    @classmethod
    def build(cls, settings: EvaluationSettings, prompts: PromptSets) -> "KLDivergence":
        good = prompts["good_evaluation_prompts"]
        return cls(good, settings.kl_divergence_scale, settings.kl_divergence_target)

    @property
    def rows(self) -> int:
        return len(self._prompts)

    def baseline(
        self, run: ScoringRun, measured: Mapping[str, BaselineMeasurement], recorded: BaselineMetric | None
    ) -> BaselineMeasurement:
        """Its tensors are log-probabilities (prompt, vocab) in fp32, on the model's device.

        Raises:
            CandidateError: its logits hold NaN.
        """
        log_probabilities = run.engine.first_token_log_probabilities(self._prompts, [{}], run.progress)[0]
        if log_probabilities.isnan().any():
            raise CandidateError("the logits of the first response token hold NaN")
        return BaselineMeasurement(0.0, tensors=log_probabilities)

    def measure(
        self, run: ScoringRun, edits: Sequence[ModelEdit], baseline: Mapping[str, BaselineMeasurement]
    ) -> list[Measurement]:
        """Raises:
        ModelError: the baseline is of another vocabulary.
        """
        found = run.engine.first_token_log_probabilities(self._prompts, edits, run.progress)
        reference = baseline[self.name].tensors
        if reference.shape[-1] != found.shape[-1]:
            raise ModelError(
                f"Expected a model of the same vocabulary as the one that it is compared with, got {found.shape[-1]} "
                f"tokens against {reference.shape[-1]}: their probabilities can't be compared. Compare models of one "
                "tokenizer."
            )
        return [Measurement(float(kl_divergence(reference, each).double().mean())) for each in found]

    def score(
        self, measured: Mapping[str, Measurement], baseline: Mapping[str, BaselineMeasurement], primary: float
    ) -> float:
        """In units of the scale. Below the target it follows the primary score, so that doing nothing does not win."""
        value = measured[self.name].value
        return (value if value >= self._target else primary * self._target) / self._scale

    @classmethod
    def heldout(cls, model: ModelMetrics) -> KLStatistics | None:
        return model.kl_first


def vocabulary_size(baseline: Mapping[str, BaselineMeasurement]) -> int:
    """The number of tokens that log-probabilities are over."""
    return int(baseline[KLDivergence.name].tensors.shape[-1])
