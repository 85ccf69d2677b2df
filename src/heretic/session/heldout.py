"""Held-out evaluation of a study: baseline and front, measured once on prompts that the search does not use."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from ..config.changes import values_as_json
from ..engine.local import LocalEngine
from ..errors import CandidateError
from ..evaluation.heldout.agreement import judge
from ..evaluation.heldout.evaluate import (
    HeldoutBaseline,
    HeldoutEvaluator,
    HeldoutPrompts,
    HeldoutRequest,
    compare_declined,
)
from ..evaluation.heldout.measurer import HeldoutMeasurer, HeldoutResult
from ..evaluation.heldout.response_classes import ResponseClassifier
from ..evaluation.heldout.schema import (
    BAD,
    CandidatePair,
    HeldoutPromptSet,
    HeldoutReport,
    KLStatistics,
    MetricBias,
    ModelMetrics,
    SelectionBias,
)
from ..evaluation.scorers.registry import heldout_metric
from ..model.chat.checks import check_prompts
from ..prompts.prompt import PromptSet
from ..study.pareto import knee
from ..study.schema import BaselineRecord, TrialRecord
from .context import LoadedStudy, Session
from .sidecars import read_heldout_report, write_heldout_report

CLASSIFIED_BY = ("refusal_markers", "refusal_openings", "system_prompt")


def response_length(session: Session) -> int:
    """Maximum number of tokens of a held-out response."""
    return session.settings.heldout_response_length or session.settings.max_response_length


def check_heldout_prompts(session: Session, engine: LocalEngine, part: HeldoutPrompts) -> None:
    """Raises:
    PromptError: a held-out prompt does not fit the chat template or the context of the model.
    """
    for prompts in part.sets().values():
        context, vocabulary = engine.loaded.context_length, engine.loaded.vocabulary
        check_prompts(engine.chat, prompts.prompts, response_length(session), context, vocabulary)


@dataclass(frozen=True, slots=True)
class HeldoutEvaluation:
    """Evaluates trials of a study on held-out prompts, and keeps their metrics next to its journal.

    `n_trials` is the number of trials of the search from which they were chosen.
    """

    loaded: LoadedStudy
    part: HeldoutPrompts
    n_trials: int

    def measured(self) -> set[int]:
        """Numbers of the trials whose metrics are on disk and still hold.

        Raises:
            StudyError: the metrics on disk are damaged.
        """
        report = self._still_valid(read_heldout_report(self._path))
        return {each.trial for each in report.candidates if each.trial is not None} if report else set()

    def run(
        self, chosen: Sequence[TrialRecord], measurer: HeldoutMeasurer, first: TrialRecord | None = None
    ) -> HeldoutReport:
        """The metrics of the chosen trials; only missing ones are measured, `first` before the others.

        The metrics of each are on disk as soon as it is measured.

        Raises:
            StudyError: the metrics on disk are damaged.
        """
        report = self._still_valid(read_heldout_report(self._path))
        known = {each.trial: each for each in report.candidates if each.trial is not None} if report else {}
        missing = sorted((trial for trial in chosen if trial.number not in known), key=lambda trial: trial != first)
        if report is None or missing:
            report = self._measure(chosen, missing, known, measurer)
        judged = judge(report, self.loaded.settings.judges, self.loaded.session.reporter)
        if judged != report:
            write_heldout_report(self._path, judged)
        return judged

    @property
    def _path(self) -> Path:
        return self.loaded.session.path

    @property
    def _length(self) -> int:
        return response_length(self.loaded.session)

    def _measure(
        self,
        chosen: Sequence[TrialRecord],
        missing: Sequence[TrialRecord],
        known: Mapping[int, ModelMetrics],
        measurer: HeldoutMeasurer,
    ) -> HeldoutReport:
        settings, reporter = self.loaded.settings, self.loaded.session.reporter
        classifier = ResponseClassifier(settings.refusal_openings, settings.refusal_markers)
        evaluator = HeldoutEvaluator(self.loaded.engine, self.part, classifier, self._length)
        requests = [HeldoutRequest(trial.number, self.loaded.edit(trial), trial.metrics) for trial in missing]
        found = dict(known)
        report: HeldoutReport | None = None
        with (
            reporter.step("Measuring on held-out prompts", self.part.rows * (len(missing) + 1)) as progress,
            closing(measurer.measure(evaluator, requests, progress)) as results,
        ):
            for result in results:
                if not isinstance(result, HeldoutResult):
                    report = self._begin(evaluator, result)
                elif isinstance(result.outcome, CandidateError):
                    reporter.warn(f"Trial {result.request.trial} can't be measured: {result.outcome}.")
                    continue
                else:
                    found[result.request.trial] = result.outcome
                assert report is not None, "the baseline comes first"
                report = self._with(report, [found[trial.number] for trial in chosen if trial.number in found])
                write_heldout_report(self._path, report)
        assert report is not None, "the baseline comes first"
        return report

    def _begin(self, evaluator: HeldoutEvaluator, reference: HeldoutBaseline) -> HeldoutReport:
        first, along = evaluator.null(reference)
        return HeldoutReport(
            model=self.loaded.record.model,
            prompts={name: _described(each) for name, each in self.part.sets().items()},
            max_response_length=self._length,
            settings=self._classified_by(),
            null_kl_first=first,
            null_kl_answers=along,
            baseline=without_public_texts(reference.metrics, self.part),
            candidates=[],
            pairs=[],
            selection_bias=None,
        )

    def _with(self, report: HeldoutReport, measured: Sequence[ModelMetrics]) -> HeldoutReport:
        candidates = [without_public_texts(each, self.part) for each in measured]
        pairs = [
            CandidatePair(
                first=a.trial, second=b.trial, declined=compare_declined(a.sets[BAD].responses, b.sets[BAD].responses)
            )
            for a, b in combinations(candidates, 2)
            if a.trial is not None and b.trial is not None
        ]
        bias = None
        if candidates and self._comparable():
            bias = selection_bias_of(report.baseline, candidates, self.loaded.record.baseline, self.n_trials)
        return report.model_copy(update={"candidates": candidates, "pairs": pairs, "selection_bias": bias})

    def _comparable(self) -> bool:
        """Whether search and held-out evaluation use the same kind of prompts and the same response length."""
        settings = self.loaded.settings
        own = settings.bad_heldout_prompts is not None
        return self._length == settings.max_response_length and (own or settings.preset != "hub")

    def _still_valid(self, report: HeldoutReport | None) -> HeldoutReport | None:
        """Earlier metrics, if they were measured with the same prompts and settings."""
        if report is None or report.max_response_length != self._length:
            return None
        digests = {name: each.digest for name, each in self.part.sets().items()}
        same = {name: each.digest for name, each in report.prompts.items()} == digests
        return report if same and report.settings == self._classified_by() else None

    def _classified_by(self) -> dict[str, object]:
        return values_as_json(self.loaded.settings, CLASSIFIED_BY)


def numbered(trials: Sequence[TrialRecord], numbers: Sequence[int]) -> list[TrialRecord]:
    """The trials with these numbers, in the order of the numbers."""
    return [trial for number in numbers for trial in trials if trial.number == number]


def spread(
    front: Sequence[TrialRecord], baseline: BaselineRecord, most: int, selected: TrialRecord | None = None
) -> list[TrialRecord]:
    """At most `most` trials of the front, evenly over its length, its ends and the `selected` one (the knee by default)
    among them."""
    if most <= 0 or not front:
        return []
    if len(front) <= most:
        return list(front)
    best = front.index(selected or knee(front, baseline))
    if most == 1:
        return [front[best]]
    places = [round(i * (len(front) - 1) / (most - 1)) for i in range(most)]
    if best not in places:
        # The knee replaces its nearest neighbour, which is an end only if there is no other.
        inner = places[1:-1] or places[1:]
        places[places.index(min(inner, key=lambda place: abs(place - best)))] = best
    return [front[place] for place in sorted(places)]


def selection_bias_of(
    baseline: ModelMetrics, candidates: Sequence[ModelMetrics], recorded: BaselineRecord, n_trials: int
) -> SelectionBias:
    """Means of the front's metrics in the search of `n_trials` trials, and on held-out prompts."""
    metrics = {}
    for name, described in recorded.metrics.items():
        of = described.of or 1
        searched = [each.search[name].value / of for each in candidates if name in each.search]
        heldout = [_mean_of(name, each) for each in candidates]
        found = [value for value in heldout if value is not None]
        metrics[name] = MetricBias(
            searched=_mean(searched),
            heldout=_mean(found) if len(found) == len(heldout) else None,
            baseline_searched=described.value / of,
            baseline_heldout=_mean_of(name, baseline),
        )
    return SelectionBias(trials=n_trials, metrics=metrics)


def _mean_of(name: str, model: ModelMetrics) -> float | None:
    """A model's held-out counterpart of a metric: a share, or the mean of a real number."""
    found = heldout_metric(name, model)
    return found.mean if isinstance(found, KLStatistics) else None if found is None else found.share


def without_public_texts(metrics: ModelMetrics, part: HeldoutPrompts) -> ModelMetrics:
    """The metrics without responses to public sets of the hub, which should not be redistributed."""
    sets = dict(metrics.sets)
    for name, prompts in part.sets().items():
        if prompts.public:
            responses = [each.model_copy(update={"text": None}) for each in sets[name].responses]
            sets[name] = sets[name].model_copy(update={"responses": responses})
    return metrics.model_copy(update={"sets": sets})


def _described(prompts: PromptSet) -> HeldoutPromptSet:
    texts = None if prompts.public else [prompt.text for prompt in prompts]
    return HeldoutPromptSet(source=prompts.source, count=len(prompts), digest=prompts.digest, texts=texts)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
