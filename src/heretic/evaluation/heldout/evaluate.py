"""Measures the baseline and candidates on the report part: prompts that neither directions nor search have seen."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ...ablation.edit import ModelEdit
from ...engine.protocol import Engine, Progress, Response, no_progress
from ...errors import CandidateError
from ...prompts.prompt import Prompt, PromptSet
from ..scorers.refusal_logodds import RefusalTokens, find_refusal_tokens, greedy_first_tokens, mean_log_odds
from ..statistics import kl_figures, paired
from .divergences import answer_divergences, first_token_divergences, null_divergences
from .response_classes import ResponseClassifier, count_classes
from .schema import Classes, KLFigures, ModelMetrics, Paired, ResponseFigure, SearchFigure


@dataclass(frozen=True, slots=True)
class ReportPart:
    """The prompt sets; over-refusal is None in a run that is about over-refusal itself."""

    good: PromptSet
    bad: PromptSet
    over_refusal: PromptSet | None

    def sets(self) -> dict[str, PromptSet]:
        found = {"good_heldout_prompts": self.good, "bad_heldout_prompts": self.bad}
        return found | ({"over_refusal_heldout_prompts": self.over_refusal} if self.over_refusal else {})

    @property
    def rows(self) -> int:
        """Prompts that one model runs: the unit of progress."""
        return sum(map(len, self.sets().values()))


@dataclass(frozen=True, slots=True)
class Reference:
    """The unmodified model on the report part, and what candidates are held against."""

    figures: ModelMetrics
    log_probabilities: Float[Tensor, "prompt vocab"]
    answers: list[Response]
    tokens: RefusalTokens | None


class ReportEvaluator:
    """Measures edits of one engine's model on the report part. Responses run to their end: nothing is cut short."""

    def __init__(self, engine: Engine, part: ReportPart, classifier: ResponseClassifier, length: int) -> None:
        self._engine = engine
        self._part = part
        self._classifier = classifier
        self._length = length

    def baseline(self, progress: Progress = no_progress) -> Reference:
        """The unmodified model.

        Raises:
            CandidateError: its logits hold NaN.
        """
        part = self._part
        log_probabilities = self._engine.first_token_log_probabilities(part.good.prompts, [{}], no_progress)[0]
        if log_probabilities.isnan().any():
            raise CandidateError("the logits of the first response token hold NaN")
        answers = self._respond(part.good, {}, progress)
        bad = self._read(part.bad, self._respond(part.bad, {}, progress))
        good = self._read(part.good, answers)
        over = self._over_refusal({}, progress)
        first_bad = self._engine.first_token_log_probabilities(part.bad.prompts, [{}], no_progress)[0]
        tokens = find_refusal_tokens(
            greedy_first_tokens(first_bad) + greedy_first_tokens(log_probabilities),
            [each.marker for each in [*bad, *good]],
        )
        figures = ModelMetrics(
            trial=None,
            bad=_classes(bad),
            good=_classes(good),
            over_refusal=_classes(over) if over else None,
            log_odds=mean_log_odds(first_bad, tokens) if tokens else None,
            kl_first=None,
            kl_answers=None,
            against_baseline=None,
            markers_against_baseline=None,
            over_refusal_against_baseline=None,
            search=None,
            bad_responses=bad,
            good_responses=good,
            over_refusal_responses=over,
        )
        return Reference(figures, log_probabilities, answers, tokens)

    def null(self, reference: Reference) -> tuple[KLFigures | None, KLFigures | None]:
        """The baseline's KL divergence from itself, at the first token and along its answers."""
        first, along = null_divergences(self._engine, self._part.good.prompts, reference.answers)
        return kl_figures(first.tolist()), kl_figures(along.tolist())

    def candidate(
        self, trial: int, edit: ModelEdit, reference: Reference, search: SearchFigure, progress: Progress = no_progress
    ) -> ModelMetrics:
        """One candidate, held against the baseline.

        Raises:
            CandidateError: its logits hold NaN.
        """
        part, before = self._part, reference.figures
        kl_first, kl_answers = self._divergences(edit, reference)
        bad = self._read(part.bad, self._respond(part.bad, edit, progress), before.bad_responses)
        good = self._read(part.good, self._respond(part.good, edit, progress), before.good_responses)
        over = self._over_refusal(edit, progress, before.over_refusal_responses)
        return ModelMetrics(
            trial=trial,
            bad=_classes(bad),
            good=_classes(good),
            over_refusal=_classes(over) if over else None,
            log_odds=self._log_odds(edit, reference.tokens),
            kl_first=kl_first,
            kl_answers=kl_answers,
            against_baseline=compare_declined(before.bad_responses, bad),
            markers_against_baseline=paired([r.marker for r in before.bad_responses], [r.marker for r in bad]),
            over_refusal_against_baseline=compare_declined(before.over_refusal_responses, over) if over else None,
            search=search,
            bad_responses=bad,
            good_responses=good,
            over_refusal_responses=over,
        )

    def _divergences(self, edit: ModelEdit, reference: Reference) -> tuple[KLFigures | None, KLFigures | None]:
        prompts = self._part.good.prompts
        first = first_token_divergences(self._engine, prompts, reference.log_probabilities, [edit])[0].tolist()
        if any(map(math.isnan, first)):
            raise CandidateError("the logits of the first response token hold NaN")
        along = answer_divergences(self._engine, prompts, reference.answers, [edit])[0].tolist()
        return kl_figures(first), kl_figures(along)

    def _log_odds(self, edit: ModelEdit, tokens: RefusalTokens | None) -> float | None:
        if tokens is None:
            return None
        first = self._engine.first_token_log_probabilities(self._part.bad.prompts, [edit], no_progress)[0]
        return mean_log_odds(first, tokens)

    def _over_refusal(
        self, edit: ModelEdit, progress: Progress, before: Sequence[ResponseFigure] = ()
    ) -> list[ResponseFigure]:
        prompts = self._part.over_refusal
        return [] if prompts is None else self._read(prompts, self._respond(prompts, edit, progress), before)

    def _respond(self, prompts: PromptSet, edit: ModelEdit, progress: Progress) -> list[Response]:
        return self._engine.generate(prompts.prompts, [edit], self._length, None, progress)[0]

    def _read(
        self, prompts: PromptSet, responses: Sequence[Response], before: Sequence[ResponseFigure] = ()
    ) -> list[ResponseFigure]:
        references = [each.text or "" for each in before] or [""] * len(responses)
        return [
            self._figure(index, prompt, response, reference)
            for index, (prompt, response, reference) in enumerate(zip(prompts, responses, references, strict=True))
        ]

    def _figure(self, index: int, prompt: Prompt, response: Response, reference: str) -> ResponseFigure:
        kind, reason = self._classifier.classify(prompt.text, response, reference)
        return ResponseFigure(
            prompt=index,
            text=response.text,
            tokens=response.n_tokens,
            complete=response.complete,
            kind=kind,
            reason=reason,
            marker=self._classifier.is_marked(response.text),
        )


def compare_declined(first: Sequence[ResponseFigure], second: Sequence[ResponseFigure]) -> Paired:
    """Which of two models declines what, prompt by prompt."""
    return paired([each.kind == "declined" for each in first], [each.kind == "declined" for each in second])


def _classes(responses: Sequence[ResponseFigure]) -> Classes:
    return count_classes(
        [(each.kind, each.reason) for each in responses],
        [each.marker for each in responses],
        [each.complete for each in responses],
    )
