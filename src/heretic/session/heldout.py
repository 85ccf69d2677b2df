"""The held-out evaluation at the end of a run: the front and the baseline, on prompts that no search has used."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from ..config import Settings
from ..engine.local import LocalEngine
from ..errors import CandidateError
from ..evaluation.heldout.agreement import judge
from ..evaluation.heldout.evaluate import HeldoutBaseline, HeldoutEvaluator, HeldoutPrompts, compare_declined
from ..evaluation.heldout.response_classes import ResponseClassifier
from ..evaluation.heldout.schema import (
    BAD,
    HeldoutReport,
    KLFigures,
    MetricBias,
    ModelMetrics,
    PairFigure,
    PromptsFigure,
    SelectionBias,
)
from ..evaluation.scorers.registry import heldout_metric
from ..events import Reporter
from ..model.chat.checks import check_prompts
from ..prompts.prompt import PromptSet
from ..report.tables import show_heldout
from ..search.measurer import Compile
from ..study.pareto import knee, pareto_front
from ..study.reader import RecordedStudy
from ..study.schema import BaselineRecord, TrialRecord
from ..study.study import Study
from .heldout_sidecar import read_figures, write_figures

CLASSIFIED_BY = ("refusal_markers", "refusal_openings", "system_prompt")


class FrontMeasurement:
    """Measures the front of one study on the report part, and keeps the figures beside its journal."""

    def __init__(
        self, engine: LocalEngine, part: HeldoutPrompts | None, settings: Settings, path: Path, reporter: Reporter
    ) -> None:
        self._engine = engine
        self._part = part
        self._settings = settings
        self._path = path
        self._reporter = reporter
        self._length = settings.heldout_response_length or settings.max_response_length
        self._these: Sequence[int] | None = None
        if part is not None:
            for prompts in part.sets().values():
                check_prompts(
                    engine.chat, prompts.prompts, self._length, engine.loaded.context_length, engine.loaded.vocabulary
                )

    def measure_these(self, numbers: Sequence[int]) -> None:
        """Of the trials those with these `numbers`, whether on the front or not."""
        self._these = numbers

    def run(self, study: Study, compiled: Compile) -> HeldoutReport | None:
        """Measures what is not measured yet, and shows all; each model's figures are on disk before the next one.

        Raises:
            StudyError: figures of an earlier measurement are damaged.
        """
        chosen = self._chosen(study)
        if self._part is None or not chosen:
            return None
        figures = self._still_valid(read_figures(self._path))
        known = {each.trial: each for each in figures.candidates} if figures else {}
        missing = [trial for trial in chosen if trial.number not in known]
        if missing or figures is None:
            figures = self._measure(self._part, study, compiled, chosen, known)
        judged = judge(figures, self._settings.judges, self._reporter)
        if judged != figures:
            figures = judged
            write_figures(self._path, figures)
        show_heldout(figures, study.record.baseline, self._reporter)
        return figures

    def _chosen(self, study: Study) -> list[TrialRecord]:
        if self._these is not None:
            return [trial for number in self._these for trial in study.trials if trial.number == number]
        return spread(
            pareto_front(study.trials, study.record.baseline), study.record.baseline, self._settings.heldout_trials
        )

    def _measure(
        self,
        part: HeldoutPrompts,
        study: Study,
        compiled: Compile,
        chosen: Sequence[TrialRecord],
        known: dict[int | None, ModelMetrics],
    ) -> HeldoutReport:
        classifier = ResponseClassifier(self._settings.refusal_openings, self._settings.refusal_markers)
        evaluator = HeldoutEvaluator(self._engine, part, classifier, self._length)
        missing = [trial for trial in chosen if trial.number not in known]
        rows = part.rows * (len(missing) + 1)
        with self._reporter.step("Measuring on held-out prompts", rows) as progress:
            reference = evaluator.baseline(progress)
            figures = self._begin(part, study, evaluator, reference)
            write_figures(self._path, figures)
            for trial in chosen:
                measured = known.get(trial.number)
                if measured is None:
                    try:
                        edit = compiled(trial.parameters)
                        measured = evaluator.candidate(trial.number, edit, reference, trial.metrics, progress)
                    except CandidateError as error:
                        self._reporter.warn(f"Trial {trial.number} can't be measured: {error}.")
                        continue
                figures = self._with(figures, measured, study)
                write_figures(self._path, figures)
        return figures

    def _begin(
        self, part: HeldoutPrompts, study: Study, evaluator: HeldoutEvaluator, reference: HeldoutBaseline
    ) -> HeldoutReport:
        first, along = evaluator.null(reference)
        return HeldoutReport(
            model=study.record.model,
            prompts={name: _described(each) for name, each in part.sets().items()},
            max_response_length=self._length,
            settings=self._classified_by(),
            null_kl_first=first,
            null_kl_answers=along,
            baseline=without_public_texts(reference.metrics, part),
            candidates=[],
            pairs=[],
            selection_bias=None,
        )

    def _with(self, figures: HeldoutReport, measured: ModelMetrics, study: Study) -> HeldoutReport:
        assert self._part is not None
        candidates = [*figures.candidates, without_public_texts(measured, self._part)]
        pairs = [
            PairFigure(
                first=a.trial, second=b.trial, declined=compare_declined(a.sets[BAD].responses, b.sets[BAD].responses)
            )
            for a, b in combinations(candidates, 2)
            if a.trial is not None and b.trial is not None
        ]
        bias = selection_bias_of(figures.baseline, candidates, study) if self._comparable() else None
        return figures.model_copy(update={"candidates": candidates, "pairs": pairs, "selection_bias": bias})

    def _comparable(self) -> bool:
        """Whether search and report ask alike: prompts of one kind, responses of one length."""
        own = self._settings.bad_heldout_prompts is not None
        return self._length == self._settings.max_response_length and (own or self._settings.preset != "hub")

    def _still_valid(self, figures: HeldoutReport | None) -> HeldoutReport | None:
        """Earlier figures, if they are of these prompts and settings."""
        assert self._part is not None
        if figures is None or figures.max_response_length != self._length:
            return None
        digests = {name: each.digest for name, each in self._part.sets().items()}
        same = {name: each.digest for name, each in figures.prompts.items()} == digests
        return figures if same and figures.settings == self._classified_by() else None

    def _classified_by(self) -> dict[str, object]:
        dumped = self._settings.model_dump(mode="json")
        return {key: dumped[key] for key in CLASSIFIED_BY}


def spread(front: Sequence[TrialRecord], baseline: BaselineRecord, most: int) -> list[TrialRecord]:
    """At most `most` trials of the front, evenly over its length, its ends and its knee among them."""
    if most <= 0 or not front:
        return []
    if len(front) <= most:
        return list(front)
    best = front.index(knee(front, baseline))
    if most == 1:
        return [front[best]]
    places = [round(i * (len(front) - 1) / (most - 1)) for i in range(most)]
    if best not in places:
        # In place of its nearest neighbour, which is no end where others can make room.
        inner = places[1:-1] or places[1:]
        places[places.index(min(inner, key=lambda place: abs(place - best)))] = best
    return [front[place] for place in sorted(places)]


def selection_bias_of(
    baseline: ModelMetrics, candidates: Sequence[ModelMetrics], study: Study | RecordedStudy
) -> SelectionBias:
    """The means of the front's metrics in the search, next to those on held-out prompts."""
    metrics = {}
    for name, described in study.record.baseline.metrics.items():
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
    return SelectionBias(trials=len(study.trials), metrics=metrics)


def _mean_of(name: str, model: ModelMetrics) -> float | None:
    """A model's held-out counterpart of a metric: a share, or the mean of a real number."""
    found = heldout_metric(name, model)
    return found.mean if isinstance(found, KLFigures) else None if found is None else found.share


def without_public_texts(metrics: ModelMetrics, part: HeldoutPrompts) -> ModelMetrics:
    """The same metrics without responses to public sets of the hub, which are not to be spread."""
    sets = dict(metrics.sets)
    for name, prompts in part.sets().items():
        if prompts.public:
            responses = [each.model_copy(update={"text": None}) for each in sets[name].responses]
            sets[name] = sets[name].model_copy(update={"responses": responses})
    return metrics.model_copy(update={"sets": sets})


def _described(prompts: PromptSet) -> PromptsFigure:
    texts = None if prompts.public else [prompt.text for prompt in prompts]
    return PromptsFigure(source=prompts.source, count=len(prompts), digest=prompts.digest, texts=texts)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
