"""Refusals of harmless prompts that look harmful: a side effect that a search may minimise too."""

from collections.abc import Mapping, Sequence

from ...ablation.edit import ModelEdit
from ...config import EvaluationSettings
from ...prompts.prompt import Prompt
from ...study.metrics import BaselineMetric
from ..heldout.schema import OVER_REFUSAL, ModelMetrics, Rate
from .base import BaselineMeasurement, Measurement, PromptSets, Scorer, ScoringRun
from .refusal_logodds import first_token_refusals
from .refusals import MarkerRefusals


class OverRefusals(Scorer):
    """How many harmless prompts a candidate declines: by markers, or by the first token where nothing is generated."""

    name = "over_refusals"
    label = "over-refusals"
    title = "refusals of harmless prompts that look harmful"

    def __init__(
        self, prompts: Sequence[Prompt], markers: Sequence[str], length: int, by_first_token: bool = False
    ) -> None:
        self._prompts = prompts
        self._markers = MarkerRefusals(prompts, markers, length)
        self._by_first_token = by_first_token

    @classmethod
    def build(cls, settings: EvaluationSettings, prompts: PromptSets) -> "OverRefusals | None":
        harmless = prompts.get("over_refusal_evaluation_prompts")
        if not harmless:
            return None
        by_first_token = settings.objective == "log-odds"
        return cls(harmless, settings.refusal_markers, settings.max_response_length, by_first_token)

    @property
    def rows(self) -> int:
        return len(self._prompts)

    @property
    def of(self) -> int:
        return len(self._prompts)

    def scale(self, baseline: BaselineMeasurement) -> float:
        """All prompts, rather than the baseline's over-refusals, which may be none."""
        return max(1, len(self._prompts))

    def baseline(
        self, run: ScoringRun, measured: Mapping[str, BaselineMeasurement], recorded: BaselineMetric | None
    ) -> BaselineMeasurement:
        if recorded is not None:
            return BaselineMeasurement(recorded.value)
        return BaselineMeasurement(self.measure(run, [{}], measured)[0].value)

    def measure(
        self, run: ScoringRun, edits: Sequence[ModelEdit], baseline: Mapping[str, BaselineMeasurement]
    ) -> list[Measurement]:
        if self._by_first_token:
            refusals = baseline[MarkerRefusals.name]
            found = first_token_refusals(run.engine, self._prompts, edits, refusals)
            run.progress(self.rows * len(edits))
            return [Measurement(count) for count, _ in found]
        silent = ScoringRun(run.engine, run.progress)
        counted = self._markers.responses(silent, edits)
        return [Measurement(sum(map(self._markers.is_refusal, responses))) for responses in counted]

    @classmethod
    def heldout(cls, model: ModelMetrics) -> Rate | None:
        found = model.sets.get(OVER_REFUSAL)
        return None if found is None else found.classes.markers
