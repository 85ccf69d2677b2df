"""Measures candidates against the baseline."""

import math
from collections.abc import Sequence
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


class Evaluation(BaseModel):
    """What was measured of one candidate: refusals among `prompts` bad prompts, mean KL (nats) on the good ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    refusals: int
    prompts: int
    kl_divergence: float


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
        self, edits: Sequence[ModelEdit], baseline: Baseline, progress: Progress = no_progress
    ) -> list[Evaluation | CandidateError]:
        """One evaluation a candidate, or why it could not be measured."""
        log_probabilities = self._engine.first_token_log_probabilities(self._good, edits, progress)
        divergences = [
            float(kl_divergence(baseline.log_probabilities, each).double().mean()) for each in log_probabilities
        ]
        finite = [index for index, kl in enumerate(divergences) if math.isfinite(kl)]
        counts = dict(zip(finite, self.refusals([edits[i] for i in finite], progress), strict=True)) if finite else {}
        return [
            Evaluation(refusals=counts[index], prompts=len(self._bad), kl_divergence=kl)
            if index in counts
            else CandidateError(f"the KL divergence on the good prompts is {kl}")
            for index, kl in enumerate(divergences)
        ]

    def refusals(self, edits: Sequence[ModelEdit], progress: Progress = no_progress) -> list[int]:
        """Refusals of each candidate on the bad prompts."""
        return [sum(self.is_refusal(r) for r in responses) for responses in self.responses(edits, progress)]

    def responses(self, edits: Sequence[ModelEdit], progress: Progress = no_progress) -> list[list[Response]]:
        """Responses to the bad prompts; those that hold a marker may end with it."""
        decided = self._classifier.holds_marker if self._stop_decided else None
        return self._engine.respond(self._bad, edits, self._length, decided, progress)

    def is_refusal(self, response: Response) -> bool:
        return self._classifier.is_refusal(response.text)
