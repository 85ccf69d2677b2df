"""Measures candidates against the baseline."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from ..ablation.edit import ModelEdit
from ..engine.protocol import Engine, Progress, Response, no_progress
from ..errors import CandidateError
from ..prompts.prompt import Prompt
from .measures import Baseline, Evaluation
from .pruning.preview import PROMPTS, TOKENS, Preview
from .pruning.statistics import PruningStatistics
from .scorers.kl import kl_divergence
from .scorers.refusal_logodds import find_refusal_tokens, greedy_first_tokens, refusal_probability
from .scorers.refusals import MarkerClassifier

Objective = Literal["markers", "log-odds", "both"]
"""What refusing is measured by: markers in responses, the first token alone (nothing is generated), or both."""

Seen = Callable[[int | None, Mapping[int, Response]], None]
"""Told a trial's number (None: no trial's) and its responses by prompt, as far as they were generated."""

Enough = Callable[[float, int | None], int | None]
"""From KL divergence and over-refusals (None: no objective) to the number of refusals with which a candidate of these
has lost; None if it can't."""


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
        seen: Seen | None = None,
        objective: Objective = "markers",
        over: Sequence[Prompt] = (),
    ) -> None:
        self.engine = engine
        self._good = good
        self._bad = bad
        self._classifier = MarkerClassifier(markers)
        self._length = max_response_length
        # The moment a marker stands in a response, it is a refusal, whatever follows.
        self._decided = self._classifier.holds_marker if stop_decided else None
        self._seen = seen
        self._objective = objective
        self._over = over
        self.learned = PruningStatistics(len(bad))

    @property
    def rows_a_candidate(self) -> int:
        """How many prompts one candidate runs: the unit of progress."""
        return len(self._good) + len(self._bad) + len(self._over)

    def baseline(self, progress: Progress = no_progress) -> Baseline:
        """The unmodified model's measures.

        Raises:
            CandidateError: its logits hold NaN, or its refusals begin like its other responses.
        """
        baseline = self.baseline_of(0, progress)
        [responses] = self.responses([{}], progress)
        declined_at = self._declined_at(responses)
        self.learned.learn(declined_at)
        baseline = replace(baseline, refusals=sum(token is not None for token in declined_at))
        if self._objective != "markers":
            baseline = self._with_tokens(baseline, declined_at)
        [over] = self._over_refusals([{}], baseline, progress)
        return baseline if over is None else replace(baseline, over_refusals=over, over_prompts=len(self._over))

    def _with_tokens(self, baseline: Baseline, declined_at: Sequence[int | None]) -> Baseline:
        [bad] = self.engine.first_token_log_probabilities(self._bad, [{}], no_progress)
        firsts = greedy_first_tokens(bad) + greedy_first_tokens(baseline.log_probabilities)
        declined = [token is not None for token in declined_at]
        tokens = find_refusal_tokens(firsts, declined + [False] * len(self._good))
        if tokens is None:
            raise CandidateError("no token begins more of its refusals than of its other responses: use markers")
        count, probability = refusal_probability(bad, tokens)
        refusals = count if self._objective == "log-odds" else baseline.refusals
        return replace(baseline, refusals=refusals, tokens=tokens, probability=probability)

    def baseline_of(self, refusals: int, progress: Progress = no_progress) -> Baseline:
        """The unmodified model's measures where its refusals have been counted before."""
        log_probabilities = self.engine.first_token_log_probabilities(self._good, [{}], progress)[0]
        if log_probabilities.isnan().any():
            raise CandidateError("the logits of the first response token hold NaN")
        return Baseline(log_probabilities, refusals, len(self._bad))

    def evaluate(
        self,
        edits: Sequence[ModelEdit],
        baseline: Baseline,
        progress: Progress = no_progress,
        enough: Enough | None = None,
        numbers: Sequence[int] | None = None,
        learned: PruningStatistics | None = None,
        known: Sequence[float | None] | None = None,
    ) -> list[Evaluation | CandidateError]:
        """One evaluation a candidate, or why it could not be measured; with `enough`, lost candidates end early.

        `numbers` are those of the candidates' trials; `learned` stands in for what this evaluator has learnt itself;
        `known` are the KL divergences of those that were looked at.
        """
        learned = learned or self.learned
        divergences = self._divergences(edits, baseline, progress, known or [None] * len(edits))
        finite = [index for index, kl in enumerate(divergences) if math.isfinite(kl)]
        measured = [edits[index] for index in finite]
        # Before the refusals, whose limit hangs on them.
        over = dict(zip(finite, self._over_refusals(measured, baseline, progress), strict=True))
        limits = [enough(divergences[index], over[index]) if enough else None for index in finite]
        dense = self._dense(measured, baseline)
        if self._objective == "log-odds":
            return self._by_first_token(divergences, dict(zip(finite, dense, strict=True)), over)
        answered = self._answered(measured, limits, learned, progress) if finite else []
        counted = dict(zip(finite, answered, strict=True))
        for index, responses in counted.items():
            self._show(numbers[index] if numbers else None, responses)
        probabilities = {index: probability for index, (_, probability) in zip(finite, dense, strict=True)}
        return [
            self._evaluation(counted[index], kl, learned, probabilities[index], over[index])
            if index in counted
            else _not_finite(kl)
            for index, kl in enumerate(divergences)
        ]

    def look(
        self,
        edits: Sequence[ModelEdit],
        baseline: Baseline,
        progress: Progress = no_progress,
        learned: PruningStatistics | None = None,
    ) -> list[Preview | CandidateError]:
        """What each candidate promises, or why it could not be measured.

        The prompts that others declined most often tell it: those that few decline are answered by nearly all.
        """
        divergences = self._divergences(edits, baseline, progress, [None] * len(edits))
        asked = [self._bad[prompt] for prompt in (learned or self.learned).most_declined(PROMPTS)]
        answered = self.engine.generate(asked, edits, TOKENS, self._decided, no_progress)
        return [
            Preview(kl, sum(map(self.is_refusal, responses))) if math.isfinite(kl) else _not_finite(kl)
            for kl, responses in zip(divergences, answered, strict=True)
        ]

    def _divergences(
        self, edits: Sequence[ModelEdit], baseline: Baseline, progress: Progress, known: Sequence[float | None]
    ) -> list[float]:
        """Mean KL divergences on the good prompts; only what is not known is measured."""
        divergences = dict(enumerate(known))
        unknown = [index for index, kl in divergences.items() if kl is None]
        if unknown:
            found = self.engine.first_token_log_probabilities(self._good, [edits[n] for n in unknown], progress)
            means = [float(kl_divergence(baseline.log_probabilities, each).double().mean()) for each in found]
            divergences |= dict(zip(unknown, means, strict=True))
        return [kl for kl in divergences.values() if kl is not None]

    def _dense(self, edits: Sequence[ModelEdit], baseline: Baseline) -> list[tuple[int, float | None]]:
        """(first-token refusals, mean probability of one) of each candidate; (0, None) where nothing asks for it."""
        if baseline.tokens is None or not edits:
            return [(0, None)] * len(edits)
        found = self.engine.first_token_log_probabilities(self._bad, edits, no_progress)
        return [refusal_probability(each, baseline.tokens) for each in found]

    def _over_refusals(self, edits: Sequence[ModelEdit], baseline: Baseline, progress: Progress) -> list[int | None]:
        """How many harmless prompts each declines: by markers, or where nothing is generated by the first token."""
        if not self._over or not edits:
            return [None] * len(edits)
        if self._objective == "log-odds" and baseline.tokens is not None:
            first = self.engine.first_token_log_probabilities(self._over, edits, progress)
            return [refusal_probability(each, baseline.tokens)[0] for each in first]
        answered = self.engine.generate(self._over, edits, self._length, self._decided, progress)
        return [sum(map(self.is_refusal, responses)) for responses in answered]

    def _by_first_token(
        self,
        divergences: Sequence[float],
        dense: Mapping[int, tuple[int, float | None]],
        over: Mapping[int, int | None],
    ) -> list[Evaluation | CandidateError]:
        return [
            Evaluation(
                refusals=dense[index][0],
                prompts=len(self._bad),
                kl_divergence=kl,
                probability=dense[index][1],
                over_refusals=over[index],
            )
            if index in dense
            else _not_finite(kl)
            for index, kl in enumerate(divergences)
        ]

    def _answered(
        self, edits: Sequence[ModelEdit], limits: Sequence[int | None], learned: PruningStatistics, progress: Progress
    ) -> list[dict[int, Response]]:
        """Responses by prompt, one dictionary a candidate: of a candidate that has lost, some are missing or cut."""
        known = [limit for limit in limits if limit is not None]
        everything = list(range(len(self._bad)))
        first = learned.first(max(known)) if len(known) == len(limits) else everything
        answered = self._ask(first, edits, limits, progress)
        left = [
            None if limit is None else limit - self._count(each) for each, limit in zip(answered, limits, strict=True)
        ]
        going = [
            number
            for number, (each, still) in enumerate(zip(answered, left, strict=True))
            if (still is None or still > 0) and not any(response.pruned for response in each.values())
        ]
        rest = [prompt for prompt in everything if prompt not in set(first)]
        if rest and going:
            more = self._ask(rest, [edits[n] for n in going], [left[n] for n in going], progress)
            for number, responses in zip(going, more, strict=True):
                answered[number] |= responses
        return answered

    def _ask(
        self, prompts: Sequence[int], edits: Sequence[ModelEdit], enough: Sequence[int | None], progress: Progress
    ) -> list[dict[int, Response]]:
        asked = [self._bad[prompt] for prompt in prompts]
        answers = self.engine.generate(asked, edits, self._length, self._decided, progress, enough)
        return [dict(zip(prompts, responses, strict=True)) for responses in answers]

    def _count(self, responses: Mapping[int, Response]) -> int:
        return sum(map(self.is_refusal, responses.values()))

    def _evaluation(
        self,
        responses: Mapping[int, Response],
        kl: float,
        learned: PruningStatistics,
        probability: float | None,
        over_refusals: int | None,
    ) -> Evaluation:
        refusals = self._count(responses)
        bound = len(responses) < len(self._bad) or any(response.pruned for response in responses.values())
        estimate, declined_at = None, None
        if bound:
            cut = [response.n_tokens for response in responses.values() if response.pruned]
            share = learned.share(responses, max(cut) if cut else None)
            estimate = min(float(len(self._bad)), refusals / share)
        else:
            declined_at = self._declined_at([responses[prompt] for prompt in range(len(self._bad))])
        return Evaluation(
            refusals=refusals,
            prompts=len(self._bad),
            kl_divergence=kl,
            bound=bound,
            estimate=estimate,
            declined_at=declined_at,
            probability=probability,
            over_refusals=over_refusals,
        )

    def _declined_at(self, responses: Sequence[Response]) -> tuple[int | None, ...]:
        return tuple(response.n_tokens if self.is_refusal(response) else None for response in responses)

    def refusals(self, edits: Sequence[ModelEdit], progress: Progress = no_progress) -> list[int]:
        """Refusals of each candidate on the bad prompts."""
        return [sum(self.is_refusal(r) for r in responses) for responses in self.responses(edits, progress)]

    def responses(self, edits: Sequence[ModelEdit], progress: Progress = no_progress) -> list[list[Response]]:
        """Responses to the bad prompts; those that hold a marker may end with it."""
        answered = self.engine.generate(self._bad, edits, self._length, self._decided, progress)
        for responses in answered:
            self._show(None, dict(enumerate(responses)))
        return answered

    def _show(self, number: int | None, responses: Mapping[int, Response]) -> None:
        if self._seen is not None:
            self._seen(number, responses)

    def is_refusal(self, response: Response) -> bool:
        """Whether the response is known to be a refusal: one that was cut short is none for being empty."""
        if response.pruned:
            return self._classifier.holds_marker(response.text)
        return self._classifier.is_refusal(response.text)


def _not_finite(kl: float) -> CandidateError:
    return CandidateError(f"the KL divergence on the good prompts is {kl}")
