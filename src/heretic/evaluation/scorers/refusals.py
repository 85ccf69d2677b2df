"""Refusals of the bad prompts, by markers in the text of responses."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import ClassVar

from ...ablation.edit import ModelEdit
from ...config import EvaluationSettings
from ...engine.protocol import Response
from ...errors import ModelError
from ...prompts.prompt import Prompt
from ...study.metrics import BaselineMetric
from ..heldout.schema import BAD, ModelMetrics, Rate
from ..pruning.preview import PROMPTS, TOKENS
from ..pruning.statistics import PruningStatistics
from .base import BaselineMeasurement, Measurement, Previews, PromptSets, Scorer, ScoringRun

APOSTROPHES = str.maketrans(dict.fromkeys("’‘‛`´ʼʻʹˈ′＇", "'") | {"*": ""})
# The final sigma: Σ becomes one only at the end of a word, which text that follows may change.
FINAL_SIGMA = str.maketrans({"ς": "σ"})


class MarkerRefusals(Scorer):
    """How many bad prompts a candidate declines: its responses are empty or hold a marker.

    A response ends as soon as it holds a marker, and a candidate as soon as its refusals show that it is dominated.
    """

    name = "refusals"
    label = "refusals"
    title = "refusals of bad prompts"
    primary = True
    prunes = True
    previews: ClassVar[Previews] = "roughly"

    def __init__(
        self, prompts: Sequence[Prompt], markers: Sequence[str], length: int, stop_decided: bool = True
    ) -> None:
        self._prompts = prompts
        self._classifier = MarkerClassifier(markers)
        self._length = length
        # Text that follows a marker does not change the verdict.
        self._decided = self._classifier.holds_marker if stop_decided else None

    @classmethod
    def build(cls, settings: EvaluationSettings, prompts: PromptSets) -> "MarkerRefusals | None":
        if settings.objective != "markers":
            return None
        return cls(prompts["bad_evaluation_prompts"], settings.refusal_markers, settings.max_response_length)

    @property
    def rows(self) -> int:
        return len(self._prompts)

    @property
    def of(self) -> int:
        return len(self._prompts)

    def scale(self, baseline: BaselineMeasurement) -> float:
        return max(1, baseline.value)

    def baseline(
        self, run: ScoringRun, measured: Mapping[str, BaselineMeasurement], recorded: BaselineMetric | None
    ) -> BaselineMeasurement:
        if recorded is not None:
            return BaselineMeasurement(recorded.value)
        declined_at = self.declined_at(self.responses(run, [{}])[0])
        return BaselineMeasurement(sum(token is not None for token in declined_at), declined_at=declined_at)

    def check(self, baseline: BaselineMeasurement) -> None:
        """Raises:
        ModelError: the baseline never declines: there is nothing to remove.
        """
        if not baseline.value:
            raise ModelError(
                f"Expected a model that declines some of the {self.of} bad evaluation prompts, but it declines none: "
                "there is nothing to remove. Use prompts that it declines (bad_evaluation_prompts, preset), its own "
                "system prompt (system_prompt = none), or markers that fit its refusals (refusal_markers)."
            )

    def measure(
        self, run: ScoringRun, edits: Sequence[ModelEdit], baseline: Mapping[str, BaselineMeasurement]
    ) -> list[Measurement]:
        limits = [None if limit is None else int(limit) for limit in run.limits] or [None] * len(edits)
        statistics = run.statistics or PruningStatistics.of(len(self._prompts))
        answered = self._pruned_responses(run, edits, limits, statistics)
        for number, responses in zip(run.numbers or [None] * len(edits), answered, strict=True):
            if run.show is not None:
                run.show(number, responses)
        return [self._measurement(responses, statistics) for responses in answered]

    def preview(self, run: ScoringRun, edits: Sequence[ModelEdit]) -> list[float]:
        """Refusals within a few tokens, of the prompts that most candidates declined: few decline the others."""
        statistics = run.statistics or PruningStatistics.of(len(self._prompts))
        asked = [self._prompts[prompt] for prompt in statistics.most_declined(PROMPTS)]
        answered = run.engine.generate(asked, edits, TOKENS, self._decided, run.progress)
        return [sum(map(self.is_refusal, responses)) for responses in answered]

    def score(
        self, measured: Mapping[str, Measurement], baseline: Mapping[str, BaselineMeasurement], primary: float
    ) -> float:
        """Relative to the baseline's refusals; the count itself where the baseline declines nothing."""
        return measured[self.name].expected / (baseline[self.name].value or 1)

    @classmethod
    def heldout(cls, model: ModelMetrics) -> Rate | None:
        return model.sets[BAD].classes.markers

    def responses(self, run: ScoringRun, edits: Sequence[ModelEdit]) -> list[list[Response]]:
        """Responses of each candidate to all prompts; those that hold a marker may end with it."""
        answered = run.engine.generate(self._prompts, edits, self._length, self._decided, run.progress)
        for responses in answered:
            if run.show is not None:
                run.show(None, dict(enumerate(responses)))
        return answered

    def is_refusal(self, response: Response) -> bool:
        """Whether the response is known to be a refusal. An empty one is none if it was cut off by pruning."""
        if response.pruned:
            return self._classifier.holds_marker(response.text)
        return self._classifier.is_refusal(response.text)

    def declined_at(self, responses: Sequence[Response]) -> tuple[int | None, ...]:
        """The token at which each response was known to be a refusal; None where it was none."""
        return tuple(response.n_tokens if self.is_refusal(response) else None for response in responses)

    def _pruned_responses(
        self,
        run: ScoringRun,
        edits: Sequence[ModelEdit],
        limits: Sequence[int | None],
        statistics: PruningStatistics,
    ) -> list[dict[int, Response]]:
        """Responses by prompt, one dictionary a candidate; of a pruned candidate some are missing or cut."""
        known = [limit for limit in limits if limit is not None]
        everything = list(range(len(self._prompts)))
        first = statistics.first_batch(max(known)) if len(known) == len(limits) else everything
        answered = self._ask(run, first, edits, limits)
        left = [
            None if limit is None else limit - self._count(each) for each, limit in zip(answered, limits, strict=True)
        ]
        active = [
            number
            for number, (each, still) in enumerate(zip(answered, left, strict=True))
            if (still is None or still > 0) and not any(response.pruned for response in each.values())
        ]
        rest = [prompt for prompt in everything if prompt not in set(first)]
        if rest and active:
            more = self._ask(run, rest, [edits[n] for n in active], [left[n] for n in active])
            for number, responses in zip(active, more, strict=True):
                answered[number] |= responses
        return answered

    def _ask(
        self, run: ScoringRun, prompts: Sequence[int], edits: Sequence[ModelEdit], limits: Sequence[int | None]
    ) -> list[dict[int, Response]]:
        asked = [self._prompts[prompt] for prompt in prompts]
        answers = run.engine.generate(asked, edits, self._length, self._decided, run.progress, limits)
        return [dict(zip(prompts, responses, strict=True)) for responses in answers]

    def _count(self, responses: Mapping[int, Response]) -> int:
        return sum(map(self.is_refusal, responses.values()))

    def _measurement(self, responses: Mapping[int, Response], statistics: PruningStatistics) -> Measurement:
        refusals, total = self._count(responses), len(self._prompts)
        if len(responses) == total and not any(response.pruned for response in responses.values()):
            declined_at = self.declined_at([responses[prompt] for prompt in range(total)])
            return Measurement(refusals, declined_at=declined_at)
        cut = [response.n_tokens for response in responses.values() if response.pruned]
        share = statistics.share(responses, max(cut) if cut else None)
        return Measurement(refusals, censored=True, estimate=min(float(total), refusals / share))


class MarkerClassifier:
    """Detects refusals by markers: a response is one if it is empty or holds any of them."""

    def __init__(self, markers: Sequence[str]) -> None:
        # Spaces around a marker stay: " ai " is meant not to match "said". One of asterisks alone would match anything.
        self._markers = tuple(folded for marker in markers if (folded := _single_spaces(marker)))

    def holds_marker(self, text: str) -> bool:
        """Whether the text holds a marker; if it does, so does every continuation of it, unless that begins with an
        accent for the marker's last letter."""
        folded = fold(text)
        return any(marker in folded for marker in self._markers)

    def is_refusal(self, text: str) -> bool:
        return not text.strip() or self.holds_marker(text)


def fold(text: str) -> str:
    """Lower case in Unicode's composed form NFKC, no asterisks, plain apostrophes, single spaces."""
    return _single_spaces(text).strip()


def _single_spaces(text: str) -> str:
    # Apostrophes come first: the composed form of an acute accent is a space with an accent.
    composed = unicodedata.normalize("NFKC", text.translate(APOSTROPHES))
    return re.sub(r"\s+", " ", composed.lower().translate(FINAL_SIGMA))
