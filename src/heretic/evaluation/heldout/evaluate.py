"""The held-out evaluation: the baseline and candidates on prompts that neither directions nor search have used."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

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
    """The baseline's metrics, and the reference for candidates."""

    metrics: ModelMetrics
    log_probabilities: Float[Tensor, "prompt vocab"]
    answers: list[Response]
    tokens: RefusalTokens | None


@dataclass(frozen=True, slots=True)
class HeldoutRequest:
    """A candidate to be measured; `search` are its metrics in the search."""

    trial: int
    edit: ModelEdit
    search: Mapping[str, Metric]


HeldoutOutcome = ModelMetrics | CandidateError


class HeldoutEvaluator:
    """Measures edits of one engine's model on held-out prompts. All responses are generated in full."""

    def __init__(self, engine: Engine, prompts: HeldoutPrompts, classifier: ResponseClassifier, length: int) -> None:
        self.engine = engine
        self._prompts = prompts
        self._classifier = classifier
        self._length = length

    def elsewhere(self) -> Callable[[Engine], "HeldoutEvaluator"]:
        """Makes the same evaluator of another engine; can be sent to another process, unlike this one's engine."""
        prompts, classifier, length = self._prompts, self._classifier, self._length
        return partial(HeldoutEvaluator, prompts=prompts, classifier=classifier, length=length)

    def baseline(self, progress: Progress = no_progress) -> HeldoutBaseline:
        """The unmodified model.

        Raises:
            CandidateError: its logits hold NaN.
        """
        return self.measure([], None, progress)[0]

    def null(self, baseline: HeldoutBaseline) -> tuple[KLStatistics | None, KLStatistics | None]:
        """The baseline's KL divergence from itself, at the first token and along its answers."""
        first, along = null_divergences(self.engine, self._prompts.good.prompts, baseline.answers)
        return kl_statistics(first.tolist()), kl_statistics(along.tolist())

    def measure(
        self, requests: Sequence[HeldoutRequest], baseline: HeldoutBaseline | None, progress: Progress = no_progress
    ) -> tuple[HeldoutBaseline, list[HeldoutOutcome]]:
        """The baseline, and each candidate compared with it; all of them share the same forwards.

        A `baseline` that was measured before is not measured again. A candidate whose logits hold NaN is an error.

        Raises:
            CandidateError: the baseline's logits hold NaN.
        """
        log_probabilities = self._reference() if baseline is None else baseline.log_probabilities
        first = self._first_divergences(requests, log_probabilities)
        finite = [number for number, each in enumerate(first) if not any(map(math.isnan, each))]
        edits = [requests[number].edit for number in finite]
        models: list[ModelEdit] = edits if baseline is not None else [{}, *edits]
        responses = {name: self._generate(prompts, models, progress) for name, prompts in self._prompts.sets().items()}
        if baseline is None:
            baseline = self._baseline(log_probabilities, {name: each.pop(0) for name, each in responses.items()})
        outcomes: list[HeldoutOutcome] = [
            CandidateError("the logits of the first response token hold NaN") for _ in requests
        ]
        along, log_odds = self._answer_divergences(edits, baseline), self._log_odds(edits, baseline.tokens)
        for place, number in enumerate(finite):
            outcomes[number] = ModelMetrics(
                trial=requests[number].trial,
                sets=self._sets({name: each[place] for name, each in responses.items()}, baseline.metrics),
                log_odds=log_odds[place],
                kl_first=kl_statistics(first[number]),
                kl_answers=kl_statistics(along[place]),
                search=dict(requests[number].search),
            )
        return baseline, outcomes

    def _reference(self) -> Float[Tensor, "prompt vocab"]:
        """The baseline's log-probabilities of the first response token to the good prompts."""
        [found] = self.engine.first_token_log_probabilities(self._prompts.good.prompts, [{}], no_progress)
        if found.isnan().any():
            raise CandidateError("the logits of the first response token hold NaN")
        return found

    def _baseline(
        self, log_probabilities: Float[Tensor, "prompt vocab"], responses: Mapping[str, list[Response]]
    ) -> HeldoutBaseline:
        sets = self._sets(responses, None)
        [first_bad] = self.engine.first_token_log_probabilities(self._prompts.bad.prompts, [{}], no_progress)
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
        return HeldoutBaseline(metrics, log_probabilities, responses[GOOD], tokens)

    def _first_divergences(
        self, requests: Sequence[HeldoutRequest], reference: Float[Tensor, "prompt vocab"]
    ) -> list[list[float]]:
        """By candidate and good prompt."""
        if not requests:
            return []
        prompts, edits = self._prompts.good.prompts, [each.edit for each in requests]
        return first_token_divergences(self.engine, prompts, reference, edits).tolist()

    def _answer_divergences(self, edits: Sequence[ModelEdit], baseline: HeldoutBaseline) -> list[list[float]]:
        """By candidate and good prompt."""
        if not edits:
            return []
        return answer_divergences(self.engine, self._prompts.good.prompts, baseline.answers, edits).tolist()

    def _log_odds(self, edits: Sequence[ModelEdit], tokens: RefusalTokens | None) -> list[float | None]:
        if tokens is None or not edits:
            return [None] * len(edits)
        first = self.engine.first_token_log_probabilities(self._prompts.bad.prompts, edits, no_progress)
        return [mean_log_odds(each, tokens) for each in first]

    def _generate(self, prompts: PromptSet, models: Sequence[ModelEdit], progress: Progress) -> list[list[Response]]:
        """By model and prompt; progress counts a row for each model."""
        if not models:
            return []
        return self.engine.generate(
            prompts.prompts, models, self._length, None, lambda count: progress(count * len(models))
        )

    def _sets(
        self, responses: Mapping[str, Sequence[Response]], baseline: ModelMetrics | None
    ) -> dict[str, SetMetrics]:
        return {
            name: self._set(prompts, responses[name], None if baseline is None else baseline.sets[name])
            for name, prompts in self._prompts.sets().items()
        }

    def _set(self, prompts: PromptSet, responses: Sequence[Response], before: SetMetrics | None) -> SetMetrics:
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
