"""The end of a run: the front and the model itself, measured once on prompts that no search saw."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from ..config import Settings
from ..engine.local import LocalEngine
from ..errors import CandidateError
from ..evaluation.heldout.evaluate import Reference, ReportEvaluator, ReportPart, compare_declined
from ..evaluation.heldout.response_classes import ResponseClassifier
from ..evaluation.heldout.schema import (
    HeldoutReport,
    ModelMetrics,
    PairFigure,
    PromptsFigure,
    SearchFigure,
    SelectionBias,
)
from ..evaluation.statistics import rate
from ..events import Reporter
from ..model.chat.checks import check_prompts
from ..prompts.prompt import PromptSet
from ..report.tables import show_figures
from ..search.measurer import Compile
from ..study.pareto import knee, pareto_front
from ..study.reader import RecordedStudy
from ..study.schema import BaselineRecord, TrialRecord
from ..study.study import Study
from .heldout_sidecar import read_figures, write_figures
from .judging import judge

CLASSIFIED_BY = ("refusal_markers", "refusal_openings", "system_prompt")


class FrontMeasurement:
    """Measures the front of one study on the report part, and keeps the figures beside its journal."""

    def __init__(
        self, engine: LocalEngine, part: ReportPart | None, settings: Settings, path: Path, reporter: Reporter
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
        show_figures(figures, self._reporter)
        return figures

    def _chosen(self, study: Study) -> list[TrialRecord]:
        if self._these is not None:
            return [trial for number in self._these for trial in study.trials if trial.number == number]
        return spread(
            pareto_front(study.trials, study.record.baseline), study.record.baseline, self._settings.heldout_trials
        )

    def _measure(
        self,
        part: ReportPart,
        study: Study,
        compiled: Compile,
        chosen: Sequence[TrialRecord],
        known: dict[int | None, ModelMetrics],
    ) -> HeldoutReport:
        classifier = ResponseClassifier(self._settings.refusal_openings, self._settings.refusal_markers)
        evaluator = ReportEvaluator(self._engine, part, classifier, self._length)
        missing = [trial for trial in chosen if trial.number not in known]
        rows = part.rows * (len(missing) + 1)
        with self._reporter.step("Measuring on prompts that no search saw", rows) as progress:
            reference = evaluator.baseline(progress)
            figures = self._begin(part, study, evaluator, reference)
            write_figures(self._path, figures)
            for trial in chosen:
                measured = known.get(trial.number)
                if measured is None:
                    try:
                        search = searched(trial, study.record.baseline)
                        measured = evaluator.candidate(
                            trial.number, compiled(trial.parameters), reference, search, progress
                        )
                    except CandidateError as error:
                        self._reporter.warn(f"Trial {trial.number} can't be measured: {error}.")
                        continue
                figures = self._with(figures, measured, study)
                write_figures(self._path, figures)
        return figures

    def _begin(self, part: ReportPart, study: Study, evaluator: ReportEvaluator, reference: Reference) -> HeldoutReport:
        first, along = evaluator.null(reference)
        return HeldoutReport(
            model=study.record.model,
            prompts={name: _described(each) for name, each in part.sets().items()},
            max_response_length=self._length,
            settings=self._classified_by(),
            null_kl_first=first,
            null_kl_answers=along,
            baseline=without_public_texts(reference.figures, part),
            candidates=[],
            pairs=[],
            flattery=None,
        )

    def _with(self, figures: HeldoutReport, measured: ModelMetrics, study: Study) -> HeldoutReport:
        assert self._part is not None
        candidates = [*figures.candidates, without_public_texts(measured, self._part)]
        pairs = [
            PairFigure(first=a.trial, second=b.trial, declined=compare_declined(a.bad_responses, b.bad_responses))
            for a, b in combinations(candidates, 2)
            if a.trial is not None and b.trial is not None
        ]
        flattery = selection_bias_of(figures.baseline, candidates, study) if self._comparable() else None
        return figures.model_copy(update={"candidates": candidates, "pairs": pairs, "flattery": flattery})

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


def searched(trial: TrialRecord, baseline: BaselineRecord) -> SearchFigure:
    over = trial.over_refusals
    return SearchFigure(
        refusals=rate(trial.refusals, baseline.prompts),
        kl_divergence=trial.kl_divergence,
        over_refusals=None if over is None else rate(over, baseline.over_prompts or 0),
    )


def selection_bias_of(
    baseline: ModelMetrics, candidates: Sequence[ModelMetrics], study: Study | RecordedStudy
) -> SelectionBias:
    """The search's figures of the measured front beside the report's."""
    searched = [each.search for each in candidates if each.search is not None]
    kls = [each.kl_first.mean for each in candidates if each.kl_first is not None]
    record = study.record.baseline
    return SelectionBias(
        trials=len(study.trials),
        refusals_searched=_mean([each.refusals.share for each in searched]),
        refusals_reported=_mean([each.bad.markers.share for each in candidates]),
        kl_searched=_mean([each.kl_divergence for each in searched]),
        kl_reported=_mean(kls) if len(kls) == len(candidates) else None,
        baseline_searched=record.refusals / record.prompts,
        baseline_reported=baseline.bad.markers.share,
    )


def without_public_texts(figures: ModelMetrics, part: ReportPart) -> ModelMetrics:
    """The same figures without responses to public sets of the hub, which are not to be spread."""
    fields = {"good": part.good, "bad": part.bad, "over_refusal": part.over_refusal}
    updates = {}
    for name, prompts in fields.items():
        if prompts is not None and prompts.public:
            responses = getattr(figures, f"{name}_responses")
            updates[f"{name}_responses"] = [each.model_copy(update={"text": None}) for each in responses]
    return figures.model_copy(update=updates)


def _described(prompts: PromptSet) -> PromptsFigure:
    texts = None if prompts.public else [prompt.text for prompt in prompts]
    return PromptsFigure(source=prompts.source, count=len(prompts), digest=prompts.digest, texts=texts)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
