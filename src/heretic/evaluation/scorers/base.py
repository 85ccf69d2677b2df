"""The protocol of a scorer: one metric of the search, from its measurement to its score."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from ...ablation.edit import ModelEdit
from ...config import EvaluationSettings
from ...engine.protocol import Engine, Progress, Response, no_progress
from ...prompts.prompt import Prompt
from ...study.metrics import BaselineMetric, Direction
from ..heldout.schema import KLStatistics, ModelMetrics, Rate
from ..pruning.statistics import PruningStatistics

Show = Callable[[int | None, Mapping[int, Response]], None]
"""Receives a trial's number (None outside a search) and its responses by prompt, as far as they were generated."""

Previews = Literal["fully", "roughly", "never"]

PromptSets = Mapping[str, Sequence[Prompt]]
"""Evaluation prompts by the key of their set in the configuration."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """A candidate's value of one metric.

    A `censored` value is a lower bound, since the candidate was pruned; `estimate` is its probable full value.
    `details` are further values that enter the score. `declined_at` holds, for each prompt of a full evaluation, the
    token at which the response was known to be a refusal (None: it was none): pruning learns from it.
    """

    value: int | float
    censored: bool = False
    estimate: float | None = None
    details: Mapping[str, float] = field(default_factory=dict)
    declined_at: tuple[int | None, ...] | None = None

    @property
    def expected(self) -> float:
        """The value; for a censored one its estimate, because the bound is too favourable to the candidate."""
        return self.value if self.estimate is None else self.estimate


@dataclass(frozen=True, slots=True)
class BaselineMeasurement:
    """One scorer's measurement of the baseline: its value, and the reference for candidates.

    `details` are part of a study's record, and must be JSON. `tensors` are not: a resumed study measures them again.
    """

    value: int | float
    details: Mapping[str, Any] = field(default_factory=dict)
    tensors: Any = None
    declined_at: tuple[int | None, ...] | None = None


@dataclass(frozen=True, slots=True)
class ScoringRun:
    """The state that the scorers of some candidates share: the engine, and what is known of the candidates.

    By candidate: `limits` are values at which the scorer that prunes may stop (None: never), `numbers` those of trials.
    `statistics` are those of fully evaluated candidates.
    """

    engine: Engine
    progress: Progress = no_progress
    limits: Sequence[float | None] = ()
    numbers: Sequence[int | None] = ()
    statistics: PruningStatistics | None = None
    show: Show | None = None


class Scorer:
    """One metric. A subclass sets the class variables and implements `build`, `rows`, `baseline` and `measure`.

    `name` is the metric's key in records; `label`, `title` and `direction` describe it (see `BaselineMetric`). The
    `primary` metric measures the behaviour that is to be removed, and comes first in records and tables. A scorer that
    `prunes` is the last to measure, and may stop at a limit. One that `needs_baseline` can't measure without it.
    `previews`: a preview of a candidate measures the metric fully (because that costs little), roughly, or never, as
    it does a metric to maximise.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    title: ClassVar[str]
    direction: ClassVar[Direction] = "minimize"
    primary: ClassVar[bool] = False
    prunes: ClassVar[bool] = False
    needs_baseline: ClassVar[bool] = False
    previews: ClassVar[Previews] = "never"

    @classmethod
    def build(cls, settings: EvaluationSettings, prompts: PromptSets) -> "Scorer | None":
        """The scorer that the settings and prompts of a run ask for; None if they ask for none of this kind."""
        raise NotImplementedError

    @property
    def rows(self) -> int:
        """Prompts that one candidate runs: the unit of progress."""
        raise NotImplementedError

    @property
    def of(self) -> int | None:
        """The number of prompts that the value is a count out of; None if it is a real number."""
        return None

    def scale(self, baseline: BaselineMeasurement) -> float:
        """The distance from the ideal value at which the metric is worthless."""
        return 1.0

    def baseline(
        self, run: ScoringRun, measured: Mapping[str, BaselineMeasurement], recorded: BaselineMetric | None
    ) -> BaselineMeasurement:
        """The unmodified model's value, and the reference for candidates.

        `measured` are the measurements of the scorers before this one. Values in the record of a resumed study
        (`recorded`) need not be measured again.

        Raises:
            CandidateError: the model can't be measured.
        """
        raise NotImplementedError

    def check(self, baseline: BaselineMeasurement) -> None:
        """Raises:
        ModelError: a search from this baseline makes no sense.
        """

    def measure(
        self, run: ScoringRun, edits: Sequence[ModelEdit], baseline: Mapping[str, BaselineMeasurement]
    ) -> list[Measurement]:
        """The value of each candidate. One that is not finite means that the candidate can't be used."""
        raise NotImplementedError

    def preview(self, run: ScoringRun, edits: Sequence[ModelEdit]) -> list[float]:
        """A rough value of each candidate, at a fraction of the cost (of a scorer that previews `roughly`)."""
        raise NotImplementedError

    def score(
        self, measured: Mapping[str, Measurement], baseline: Mapping[str, BaselineMeasurement], primary: float
    ) -> float:
        """The objective that the sampler minimises; `primary` is the score of the primary metric."""
        metric = self.describe(baseline[self.name])
        return metric.loss(measured[self.name].expected)

    def describe(self, baseline: BaselineMeasurement) -> BaselineMetric:
        """The metric as a study records it."""
        return BaselineMetric(
            label=self.label,
            title=self.title,
            value=baseline.value,
            of=self.of,
            scale=self.scale(baseline),
            direction=self.direction,
            details=dict(baseline.details),
        )

    @classmethod
    def heldout(cls, model: ModelMetrics) -> Rate | KLStatistics | None:
        """The metric's counterpart among those of the held-out evaluation; None if it has none."""
        return None
