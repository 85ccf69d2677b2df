"""Figures that are measured once, at the end, on prompts that no search saw: their form on disk.

`Figures` is the file `NAME.figures.json` beside a study's journal. It holds, for the baseline and for at most ten
candidates of the front, what was measured on the report part: counts of responses by class and by marker with Wilson
intervals, the distribution of KL divergences, over-refusal, paired tests, the responses themselves, and beside each
candidate what the search had said of it. Everything in it is finite; what could not be measured is None.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from ...config.renamed import CurrentKeys

ResponseClass = Literal["declined", "answered", "broken"]
Broken = Literal["empty", "repeating", "script", "unfinished"]
"""Why a response is broken; `unfinished` only where it had room enough to end."""


class Figure(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Rate(Figure):
    """`count` of `of`, with the Wilson interval of 95 % as shares."""

    count: int
    of: int
    low: float
    high: float

    @property
    def share(self) -> float:
        return self.count / self.of if self.of else 0.0


class KLFigures(Figure):
    """KL divergences from the baseline, in nats, over `prompts` good prompts.

    `trimmed_mean` leaves out the highest and the lowest tenth; `low` and `high` bound the mean (bootstrap, 95 %);
    `worst_prompt` is an index of the part, and carries `worst_share` of the sum. Prompts whose divergence is infinite
    (the candidate rules out what the baseline may say) are counted in `infinite` and left out of all others.
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


class Paired(Figure):
    """Two models on the same prompts: how many only the first declines, how many only the second (exact McNemar).

    `markers_against_baseline` counts by markers in place of the class declined.
    """

    only_first: int
    only_second: int
    p_value: float

    @property
    def distinguishable(self) -> bool:
        """At the level of 5 %."""
        return self.p_value < 0.05


class Classes(Figure):
    """Responses to one prompt set by class, and how many hold a marker or are empty (SPEC 6), whatever their class.

    `unfinished`: how many the length limit cut off; `reasons`: the broken ones by what is wrong with them.
    """

    declined: Rate
    answered: Rate
    broken: Rate
    markers: Rate
    unfinished: Rate
    reasons: dict[Broken, int]


class PromptsFigure(Figure):
    """A prompt set of the report part: where it came from, how many, the digest of its texts, and the texts.

    `texts` is None where the set is a public one of the hub.
    """

    source: str
    count: int
    digest: str
    texts: list[str] | None


class ResponseFigure(Figure):
    """One response. `prompt` is an index of its set; `text` is None where the set is a public one of the hub, whose
    responses are not stored."""

    prompt: int
    text: str | None
    tokens: int
    complete: bool
    kind: ResponseClass
    reason: Broken | None
    marker: bool


class SearchFigure(Figure):
    """What the search said of a candidate, on its own prompts."""

    refusals: Rate
    kl_divergence: float
    over_refusals: Rate | None = None
    """None where they were no objective."""


class ModelMetrics(Figure):
    """One model on the report part; `trial` is None for the baseline, which has no KL and no paired tests either.

    `log_odds`: mean log-odds of refusing at the first token of the bad prompts (None where the baseline's refusals
    begin with no token of their own). `kl_answers`: per token, along the baseline's own answers.
    """

    trial: int | None
    bad: Classes
    good: Classes
    over_refusal: Classes | None
    log_odds: float | None
    kl_first: KLFigures | None
    kl_answers: KLFigures | None
    against_baseline: Paired | None
    markers_against_baseline: Paired | None
    over_refusal_against_baseline: Paired | None
    search: SearchFigure | None
    bad_responses: list[ResponseFigure]
    good_responses: list[ResponseFigure]
    over_refusal_responses: list[ResponseFigure]


class PairFigure(Figure):
    """Two candidates of the front against each other on the bad report prompts."""

    first: int
    second: int
    declined: Paired


class SelectionBias(Figure):
    """How much better the search's figures look than the report's, over the whole front that was measured.

    Means of shares of refusals (by markers) and of first-token KL in nats; the front is the best of `trials`. The
    baseline was not selected: what its own shares differ by is the difference of the two prompt sets.
    """

    trials: int
    refusals_searched: float
    refusals_reported: float
    kl_searched: float
    kl_reported: float | None
    baseline_searched: float
    baseline_reported: float


class JudgeFigures(Figure):
    """What one judge says of the bad responses of one model, in their order."""

    judge: str
    trial: int | None
    declined: Rate
    answered: Rate
    broken: Rate
    verdicts: list[ResponseClass]


class AgreementFigure(Figure):
    """Cohen's kappa of two judges over all bad responses of all models; None where both gave the same one verdict
    throughout: there is nothing to agree on."""

    first: str
    second: str
    kappa: float | None
    agree: Rate


class HeldoutReport(Figure):
    """All that was measured on the report part of one study."""

    version: Literal[1] = 1
    model: str
    prompts: CurrentKeys[PromptsFigure]
    """By key: good_heldout_prompts, bad_heldout_prompts, over_refusal_heldout_prompts."""
    max_response_length: int
    settings: dict[str, Any]
    """The lists that tell refusals."""
    null_kl_first: KLFigures | None
    """The baseline against itself under another batching: what is no more than this is rounding."""
    null_kl_answers: KLFigures | None
    baseline: ModelMetrics
    candidates: list[ModelMetrics]
    pairs: list[PairFigure]
    flattery: SelectionBias | None
    judges: list[JudgeFigures] = []
    agreement: list[AgreementFigure] = []
