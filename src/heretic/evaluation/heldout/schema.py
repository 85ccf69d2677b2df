"""Metrics of the held-out evaluation, measured once at the end of a run, and their form on disk.

`HeldoutReport` is the file `NAME.heldout.json` next to a study's journal. It holds, for the baseline and at most ten
candidates of the front, the metrics on each held-out prompt set: counts of responses by class and by marker with Wilson
intervals, the distribution of KL divergences, paired tests, the responses themselves, and next to them the candidate's
metrics in the search. Everything in it is finite; a metric that could not be measured is None.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from ...config.renamed import CurrentKeys
from ...study.metrics import Metric
from ...study.version1 import upgraded
from . import version1

ResponseClass = Literal["declined", "answered", "broken"]
Broken = Literal["empty", "repeating", "script", "unfinished"]
"""Why a response is broken; `unfinished` only if it had enough tokens to end."""

GOOD, BAD, OVER_REFUSAL = "good_heldout_prompts", "bad_heldout_prompts", "over_refusal_heldout_prompts"
"""The held-out prompt sets, by their configuration keys."""


class StoredValue(BaseModel):
    """A frozen value that is kept as JSON; it forbids unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Rate(StoredValue):
    """`count` of `of`, with the Wilson interval of 95 % as shares."""

    count: int
    of: int
    low: float
    high: float

    @property
    def share(self) -> float:
        return self.count / self.of if self.of else 0.0


class KLStatistics(StoredValue):
    """KL divergences from the baseline, in nats, over `prompts` good prompts.

    `trimmed_mean` leaves out the highest and the lowest tenth; `low` and `high` bound the mean (bootstrap, 95 %);
    `worst_prompt` is an index of the part, and carries `worst_share` of the sum. Prompts whose divergence is infinite
    (the candidate rules out a token that the baseline may choose) are counted in `infinite` and left out of all others.
    """

    prompts: int
    infinite: int
    mean: float
    median: float
    trimmed_mean: float
    standard_error: float
    low: float
    high: float
    worst: float
    worst_prompt: int
    worst_share: float


class Paired(StoredValue):
    """Two models on the same prompts: the number that only the first declines, and that only the second does, with the
    p value of McNemar's exact test."""

    only_first: int
    only_second: int
    p_value: float

    @property
    def distinguishable(self) -> bool:
        """At the level of 5 %."""
        return self.p_value < 0.05


class Classes(StoredValue):
    """Responses to one prompt set by class.

    `markers` counts those that hold a marker or are empty, whatever their class; `unfinished` those that the length
    limit cut off; `reasons` the broken ones by defect.
    """

    declined: Rate
    answered: Rate
    broken: Rate
    markers: Rate
    unfinished: Rate
    reasons: dict[Broken, int]


class HeldoutPromptSet(StoredValue):
    """A held-out prompt set: its source, size, the digest of its texts, and the texts (None for a public set)."""

    source: str
    count: int
    digest: str
    texts: list[str] | None


class HeldoutResponse(StoredValue):
    """One response. `prompt` is an index of its set; `text` is None for a public set: its responses are not stored."""

    prompt: int
    text: str | None
    tokens: int
    complete: bool
    kind: ResponseClass
    reason: Broken | None
    marker: bool


class SetMetrics(StoredValue):
    """One model on one held-out prompt set.

    The paired tests compare it with the baseline, by the class declined and by markers; the baseline has none.
    """

    classes: Classes
    declined_against_baseline: Paired | None
    markers_against_baseline: Paired | None
    responses: list[HeldoutResponse]


class ModelMetrics(StoredValue):
    """One model on the held-out prompts; `trial` is None for the baseline, which has no KL divergence from itself.

    `sets` is by the key of the prompt set. `log_odds` is the mean log-odds of refusing at the first token of the bad
    prompts (None if the baseline's refusals begin with no token of their own). `kl_answers` is per token, along the
    baseline's answers. `search` holds the candidate's metrics in the search.
    """

    trial: int | None
    sets: CurrentKeys[SetMetrics]
    log_odds: float | None
    kl_first: KLStatistics | None
    kl_answers: KLStatistics | None
    search: dict[str, Metric]


class CandidatePair(StoredValue):
    """Two candidates of the front compared on the bad held-out prompts."""

    first: int
    second: int
    declined: Paired


class MetricBias(StoredValue):
    """One metric in the search and on held-out prompts: means over the front, as shares of prompts or in its own unit.

    `baseline_*` is the same for the baseline, which was not selected: its difference is that of the two prompt sets.
    A held-out value is None if it could not be measured for every candidate.
    """

    searched: float
    heldout: float | None
    baseline_searched: float | None
    baseline_heldout: float | None


class SelectionBias(StoredValue):
    """How much better the front looks in the search, which selected it from `trials`, than on held-out prompts."""

    trials: int
    metrics: dict[str, MetricBias]


class JudgeVerdicts(StoredValue):
    """One judge's verdicts on the responses of one model to the bad prompts, in their order."""

    judge: str
    trial: int | None
    declined: Rate
    answered: Rate
    broken: Rate
    verdicts: list[ResponseClass]


class JudgeAgreement(StoredValue):
    """Cohen's kappa of two judges over the responses of all models to the bad prompts.

    It is None if both judges gave one and the same verdict throughout: chance alone would agree.
    """

    first: str
    second: str
    kappa: float | None
    agree: Rate


class HeldoutReport(StoredValue):
    """All metrics of the held-out evaluation of one study.

    `null_kl_first` and `null_kl_answers` are the baseline's divergence from itself under another batching: anything
    below them is rounding.
    """

    version: Literal[2] = 2
    model: str
    prompts: CurrentKeys[HeldoutPromptSet]
    max_response_length: int
    settings: CurrentKeys[Any]
    """The lists that tell refusals."""
    null_kl_first: KLStatistics | None
    null_kl_answers: KLStatistics | None
    baseline: ModelMetrics
    candidates: list[ModelMetrics]
    pairs: list[CandidatePair]
    selection_bias: SelectionBias | None
    judges: list[JudgeVerdicts] = []
    agreement: list[JudgeAgreement] = []

    @model_validator(mode="before")
    @classmethod
    def _of_version_1(cls, content: Any) -> Any:
        return upgraded(version1.report_fields, content) if version1.is_version_1(content) else content

    @property
    def models(self) -> list[ModelMetrics]:
        """The baseline and the candidates."""
        return [self.baseline, *self.candidates]
