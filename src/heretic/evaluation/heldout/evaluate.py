"""The held-out evaluation: the baseline and candidates on prompts that neither directions nor search have used."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ...ablation.edit import ModelEdit
from ...engine.protocol import Engine, Progress, Response, no_progress
from ...errors import CandidateError
from ...prompts.prompt import Prompt, PromptSet
from ...study.metrics import Metric
from ..scorers.refusal_logodds import RefusalTokens, find_refusal_tokens, greedy_first_tokens, mean_log_odds
from ..statistics import kl_statistics, paired
from .divergences import answer_divergences, first_token_divergences, null_divergences
from .response_classes import ResponseClassifier, count_classes
from .schema import BAD, GOOD, OVER_REFUSAL, Classes, HeldoutResponse, KLStatistics, ModelMetrics, Paired, SetMetrics


@dataclass(frozen=True, slots=True)
class HeldoutPrompts:
    """The held-out prompt sets; over-refusal is None in a run that is about over-refusal itself."""

    good: PromptSet
    bad: PromptSet
    over_refusal: PromptSet | None

    def sets(self) -> dict[str, PromptSet]:
        """By configuration key."""
        third = {OVER_REFUSAL: self.over_refusal} if self.over_refusal else {}
        return {GOOD: self.good, BAD: self.bad, **third}

    @property
    def rows(self) -> int:
        """Prompts that one model runs: the unit of progress."""
        return sum(map(len, self.sets().values()))


@dataclass(frozen=True, slots=True)
class HeldoutBaseline:
    """The baseline's metrics, and what candidates are compared with."""

    metrics: ModelMetrics
    log_probabilities: Float[Tensor, "prompt vocab"]
    answers: list[Response]
    tokens: RefusalTokens | None


class HeldoutEvaluator:
    """Measures edits of one engine's model on held-out prompts. All responses are generated in full."""

    def __init__(self, engine: Engine, prompts: HeldoutPrompts, classifier: ResponseClassifier, length: int) -> None:
        self._engine = engine
        self._prompts = prompts
        self._classifier = classifier
        self._length = length

    def baseline(self, progress: Progress = no_progress) -> HeldoutBaseline:
        """The unmodified model.

        Raises:
            CandidateError: its logits hold NaN.
        """
        good, bad = self._prompts.good, self._prompts.bad
        log_probabilities = self._engine.first_token_log_probabilities(good.prompts, [{}], no_progress)[0]
        if log_probabilities.isnan().any():
            raise CandidateError("the logits of the first response token hold NaN")
        answers = self._generate(good, {}, progress)
        sets = {GOOD: self._set(good, answers)}
        for name, prompts in self._prompts.sets().items():
            if name != GOOD:
                sets[name] = self._set(prompts, self._generate(prompts, {}, progress))
        first_bad = self._engine.first_token_log_probabilities(bad.prompts, [{}], no_progress)[0]
        tokens = find_refusal_tokens(
            greedy_first_tokens(first_bad) + greedy_first_tokens(log_probabilities),
            [each.marker for each in [*sets[BAD].responses, *sets[GOOD].responses]],
        )
        metrics = ModelMetrics(
            trial=None,
            sets=sets,
            log_odds=mean_log_odds(first_bad, tokens) if tokens else None,
            kl_first=None,
            kl_answers=None,
            search={},
        )
        return HeldoutBaseline(metrics, log_probabilities, answers, tokens)

    def null(self, baseline: HeldoutBaseline) -> tuple[KLStatistics | None, KLStatistics | None]:
        """The baseline's KL divergence from itself, at the first token and along its answers."""
        first, along = null_divergences(self._engine, self._prompts.good.prompts, baseline.answers)
        return kl_statistics(first.tolist()), kl_statistics(along.tolist())

    def candidate(
        self,
        trial: int,
        edit: ModelEdit,
        baseline: HeldoutBaseline,
        search: Mapping[str, Metric],
        progress: Progress = no_progress,
    ) -> ModelMetrics:
        """One candidate, compared with the baseline; `search` are its metrics in the search.

        Raises:
            CandidateError: its logits hold NaN.
        """
        kl_first, kl_answers = self._divergences(edit, baseline)
        before = baseline.metrics.sets
        sets = {
            name: self._set(prompts, self._generate(prompts, edit, progress), before[name])
            for name, prompts in self._prompts.sets().items()
        }
        return ModelMetrics(
            trial=trial,
            sets=sets,
            log_odds=self._log_odds(edit, baseline.tokens),
            kl_first=kl_first,
            kl_answers=kl_answers,
            search=dict(search),
        )

    def _divergences(
        self, edit: ModelEdit, baseline: HeldoutBaseline
    ) -> tuple[KLStatistics | None, KLStatistics | None]:
        prompts = self._prompts.good.prompts
        first = first_token_divergences(self._engine, prompts, baseline.log_probabilities, [edit])[0].tolist()
        if any(map(math.isnan, first)):
            raise CandidateError("the logits of the first response token hold NaN")
        along = answer_divergences(self._engine, prompts, baseline.answers, [edit])[0].tolist()
        return kl_statistics(first), kl_statistics(along)

    def _log_odds(self, edit: ModelEdit, tokens: RefusalTokens | None) -> float | None:
        if tokens is None:
            return None
        first = self._engine.first_token_log_probabilities(self._prompts.bad.prompts, [edit], no_progress)[0]
        return mean_log_odds(first, tokens)

    def _generate(self, prompts: PromptSet, edit: ModelEdit, progress: Progress) -> list[Response]:
        return self._engine.generate(prompts.prompts, [edit], self._length, None, progress)[0]

    def _set(self, prompts: PromptSet, responses: Sequence[Response], before: SetMetrics | None = None) -> SetMetrics:
        """Metrics on one set; with the baseline's, the paired tests too."""
        references = [""] * len(responses) if before is None else [each.text or "" for each in before.responses]
        read = [
            self._read(index, prompt, response, reference)
            for index, (prompt, response, reference) in enumerate(zip(prompts, responses, references, strict=True))
        ]
        return SetMetrics(
            classes=_classes(read),
            declined_against_baseline=None if before is None else compare_declined(before.responses, read),
            markers_against_baseline=None if before is None else _compare_markers(before.responses, read),
            responses=read,
        )

    def _read(self, index: int, prompt: Prompt, response: Response, reference: str) -> HeldoutResponse:
        kind, reason = self._classifier.classify(prompt.text, response, reference)
        return HeldoutResponse(
            prompt=index,
            text=response.text,
            tokens=response.n_tokens,
            complete=response.complete,
            kind=kind,
            reason=reason,
            marker=self._classifier.is_marked(response.text),
        )


def compare_declined(first: Sequence[HeldoutResponse], second: Sequence[HeldoutResponse]) -> Paired:
    """McNemar's test of which of two models declines what, prompt by prompt."""
    return paired([each.kind == "declined" for each in first], [each.kind == "declined" for each in second])


def _compare_markers(first: Sequence[HeldoutResponse], second: Sequence[HeldoutResponse]) -> Paired:
    return paired([each.marker for each in first], [each.marker for each in second])


def _classes(responses: Sequence[HeldoutResponse]) -> Classes:
    return count_classes(
        [(each.kind, each.reason) for each in responses],
        [each.marker for each in responses],
        [each.complete for each in responses],
    )
