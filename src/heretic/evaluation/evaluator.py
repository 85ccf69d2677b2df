"""Measures candidates against the baseline."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from jaxtyping import Float
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from ..ablation.edit import ModelEdit
from ..engine.base import Engine, Progress, Response, no_progress
from ..errors import CandidateError
from ..prompts.prompt import Prompt
from .kl import kl_divergence
from .refusals import MarkerClassifier
from .seen_by import SeenBy


class Evaluation(BaseModel):
    """What was measured of one candidate: refusals among `prompts` bad prompts, mean KL (nats) on the good ones.

    Where the candidate was given up as dominated, `bound` is True: it has at least `refusals`, and `estimate` is what
    it would probably have had.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    refusals: int
    prompts: int
    kl_divergence: float
    bound: bool = False
    estimate: float | None = None


Enough = Callable[[float], int | None]
"""From a KL divergence to the number of refusals with which a candidate of that KL has lost; None if it can't."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """What candidates are held against: the unmodified model's log-probabilities (fp32) and refusals."""

    log_probabilities: Float[Tensor, "prompt vocab"]
    refusals: int
    prompts: int


class Evaluator:
    """Measures edits of one engine's model on the evaluation prompts."""

    def __init__(
        self,
        engine: Engine,
        good: Sequence[Prompt],
        bad: Sequence[Prompt],
        markers: Sequence[str],
        max_response_length: int,
        stop_decided: bool = True,
    ) -> None:
        self._engine = engine
        self._good = good
        self._bad = bad
        self._classifier = MarkerClassifier(markers)
        self._length = max_response_length
        self._stop_decided = stop_decided
        self._seen_by = SeenBy()

    @property
    def rows_a_candidate(self) -> int:
        """How many prompts one candidate runs: the unit of progress."""
        return len(self._good) + len(self._bad)

    def baseline(self, progress: Progress = no_progress) -> Baseline:
        """The unmodified model's measures.

        Raises:
            CandidateError: its logits hold NaN.
        """
        baseline = self.baseline_of(0, progress)
        return replace(baseline, refusals=self.refusals([{}], progress)[0])

    def baseline_of(self, refusals: int, progress: Progress = no_progress) -> Baseline:
        """The unmodified model's measures where its refusals have been counted before."""
        log_probabilities = self._engine.first_token_log_probabilities(self._good, [{}], progress)[0]
        if log_probabilities.isnan().any():
            raise CandidateError("the logits of the first response token hold NaN")
        return Baseline(log_probabilities, refusals, len(self._bad))

    def evaluate(
        self,
        edits: Sequence[ModelEdit],
        baseline: Baseline,
        progress: Progress = no_progress,
        enough: Enough | None = None,
    ) -> list[Evaluation | CandidateError]:
        """One evaluation a candidate, or why it could not be measured; with `enough`, lost candidates end early."""
        log_probabilities = self._engine.first_token_log_probabilities(self._good, edits, progress)
        divergences = [
            float(kl_divergence(baseline.log_probabilities, each).double().mean()) for each in log_probabilities
        ]
        finite = [index for index, kl in enumerate(divergences) if math.isfinite(kl)]
        limits = [enough(divergences[index]) if enough else None for index in finite]
        answered = self.responses([edits[i] for i in finite], progress, limits) if finite else []
        counted = dict(zip(finite, answered, strict=True))
        return [
            self._evaluation(counted[index], kl)
            if index in counted
            else CandidateError(f"the KL divergence on the good prompts is {kl}")
            for index, kl in enumerate(divergences)
        ]

    def _evaluation(self, responses: Sequence[Response], kl: float) -> Evaluation:
        refusals = sum(self.is_refusal(response) for response in responses)
        bound = any(response.cut for response in responses)
        estimate = None
        if bound:
            reached = max(response.n_tokens for response in responses)
            estimate = min(float(len(responses)), refusals / self._seen_by.share(reached))
        else:
            self._seen_by.learn([r.n_tokens for r in responses if self.is_refusal(r)])
        return Evaluation(refusals=refusals, prompts=len(self._bad), kl_divergence=kl, bound=bound, estimate=estimate)

    def refusals(self, edits: Sequence[ModelEdit], progress: Progress = no_progress) -> list[int]:
        """Refusals of each candidate on the bad prompts."""
        return [sum(self.is_refusal(r) for r in responses) for responses in self.responses(edits, progress)]

    def responses(
        self,
        edits: Sequence[ModelEdit],
        progress: Progress = no_progress,
        enough: Sequence[int | None] | None = None,
    ) -> list[list[Response]]:
        """Responses to the bad prompts; those that hold a marker may end with it."""
        decided = self._classifier.holds_marker if self._stop_decided else None
        return self._engine.respond(self._bad, edits, self._length, decided, progress, enough)

    def is_refusal(self, response: Response) -> bool:
        """Whether the response is known to be a refusal: one that was cut short is none for being empty."""
        if response.cut:
            return self._classifier.holds_marker(response.text)
        return self._classifier.is_refusal(response.text)
