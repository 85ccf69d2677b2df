"""How a study begins: its directions and its baseline, and what it tries before its sampler has learnt anything."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..ablation.methods.base import SearchSpace
from ..ablation.methods.tensors import StudyTensors
from ..ablation.parameters import AblationParameters
from ..config import Settings
from ..engine.local import LocalEngine
from ..errors import CandidateError, ModelError, StudyError
from ..evaluation.evaluator import Baseline, Evaluator
from ..events import Reporter
from ..report.text import baseline_text
from ..study.find import find_study
from ..study.identity import check_same
from ..study.journal import tensors_path
from ..study.pareto import pareto_front
from ..study.reader import has_record
from ..study.study import Study
from .directions import fit_tensors, read_tensors, write_tensors
from .prompt_filter import filter_by_baseline, filter_direction_prompts
from .prompts import RunPrompts
from .records import identity, study_record
from .residual_plots import ResidualReport


@dataclass(frozen=True, slots=True)
class FixedCandidates:
    """A study of these candidates and no others, in this order; `measured` are the places of those that are measured
    at the end, on the front or not."""

    candidates: Sequence[AblationParameters]
    measured: Sequence[int]


class Beginning:
    """Directions and baseline of a study: measured where it is new, read where it was begun before."""

    def __init__(
        self,
        engine: LocalEngine,
        evaluator: Evaluator,
        study: Study,
        prompts: RunPrompts,
        settings: Settings,
        path: Path,
        reporter: Reporter,
    ) -> None:
        self._engine = engine
        self._evaluator = evaluator
        self._study = study
        self._prompts = prompts
        self._settings = settings
        self._path = path
        self._reporter = reporter
        self._report = ResidualReport(settings, path.stem.lstrip("-"), reporter)

    def begin_or_resume(self, prescribed: FixedCandidates | None) -> tuple[StudyTensors, Baseline]:
        """What the search needs; a new study is recorded, with the candidates that are prescribed in its queue.

        Raises:
            StudyError: the study at the path was begun with other settings, prompts or another model.
            ModelError: the model can't be measured, or declines nothing.
        """
        return self._resume() if has_record(self._path) else self._begin(prescribed)

    def _resume(self) -> tuple[StudyTensors, Baseline]:
        record = self._study.record
        check_same(record, identity(self._engine, self._prompts, self._settings, self._study.space), self._path)
        with self._reporter.step("Baseline", len(self._prompts.good_evaluation)) as progress:
            baseline = self._evaluator.baseline(progress, record.baseline)
        tensors = read_tensors(tensors_path(self._path))
        prompts = filter_direction_prompts(self._prompts, record.telling)
        self._report.measure_and_show(self._engine, prompts, tensors.directions)
        return tensors, baseline

    def _begin(self, prescribed: FixedCandidates | None) -> tuple[StudyTensors, Baseline]:
        telling = None
        if self._settings.filter_direction_prompts:
            telling = filter_by_baseline(self._engine, self._prompts, self._settings, self._reporter)
        prompts = filter_direction_prompts(self._prompts, telling)
        keep = self._report.keep if self._report.wanted else None
        tensors = fit_tensors(self._engine, prompts, self._settings, self._reporter, keep)
        self._report.show(tensors.directions)
        baseline = self._measured_baseline()
        recorded = self._evaluator.record(baseline)
        self._reporter.say(f"{baseline_text(recorded).capitalize()}.")
        write_tensors(tensors_path(self._path), tensors)
        study = self._study
        study.begin(study_record(self._engine, self._prompts, self._settings, study.space, recorded, telling))
        for parameters in prescribed.candidates if prescribed else ():
            study.enqueue(parameters)
        return tensors, baseline

    def _measured_baseline(self) -> Baseline:
        with self._reporter.step("Baseline", self._evaluator.rows) as progress:
            try:
                baseline = self._evaluator.baseline(progress)
            except CandidateError as error:
                raise ModelError(f"The baseline can't be measured: {error}. Try another dtype (dtypes).") from error
        return baseline


def first_candidates(space: SearchSpace, settings: Settings) -> list[AblationParameters]:
    """The front of the study that `settings.warm_start` names, then the literature's settings, `n_trials` at most.

    Raises:
        StudyError: there is no such study, or its model has other components.
    """
    candidates: list[AblationParameters] = []
    if settings.warm_start is not None:
        study = find_study(settings.warm_start, settings.study_checkpoint_dir)
        last_layer = int(study.record.space["last_layer"])
        try:
            candidates += [
                space.adopt(trial.parameters, last_layer) for trial in pareto_front(study.trials, study.baseline)
            ]
        except ValueError as error:
            raise StudyError(
                f"The trials of {study.path} can't be taken over ({error}). Give --warm-start the study of a model "
                "with the same components, searched with the same method, or leave it out."
            ) from error
    if settings.literature_trials:
        candidates += space.literature()
    return candidates[: settings.n_trials]
