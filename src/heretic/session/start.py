"""Starts or resumes a study: its directions, its baseline, and its first candidates."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..ablation.methods.base import SearchSpace
from ..ablation.methods.tensors import StudyTensors
from ..ablation.parameters import AblationParameters
from ..config import SearchSettings
from ..engine.local import LocalEngine
from ..errors import CandidateError, ModelError, StudyError
from ..evaluation.evaluator import Baseline, Evaluator
from ..events import Reporter
from ..report.text import baseline_text
from ..study.find import find_study
from ..study.identity import check_same
from ..study.journal import tensors_path
from ..study.pareto import pareto_front
from ..study.study import Study
from .context import Session
from .directions import ResidualCollector, collect_residuals, fit_tensors, read_tensors, write_tensors
from .prompt_filter import filter_by_baseline, filter_direction_prompts
from .records import identity, study_record
from .residual_plots import show_residuals, wants_residuals
from .tensor_store import TensorStore


@dataclass(frozen=True, slots=True)
class FixedCandidates:
    """The fixed candidates, in order, of a study without a sampler. Those with the indices `measured` are evaluated on
    held-out prompts too, even off the front."""

    candidates: Sequence[AblationParameters]
    measured: Sequence[int]


def start_study(
    session: Session, engine: LocalEngine, study: Study, evaluator: Evaluator
) -> tuple[StudyTensors, Baseline]:
    """Fits directions, measures the baseline and records both; a journal with this record counts as a study.

    Raises:
        ModelError: the model can't be measured, or it declines no bad prompt.
    """
    settings, reporter = session.settings, session.reporter
    kept = None
    if settings.filter_direction_prompts:
        kept = filter_by_baseline(engine, session.prompts, settings, reporter)
    prompts = filter_direction_prompts(session.prompts, kept)
    collector = ResidualCollector(settings.winsorization_quantile) if wants_residuals(settings) else None
    tensors = replace(fit_tensors(session, engine, prompts, collector), store=TensorStore(session.path))
    if collector is not None:
        show_residuals(session, collector, tensors.directions)
    baseline = _measure_baseline(evaluator, reporter)
    recorded = evaluator.record(baseline)
    reporter.say(f"{baseline_text(recorded).capitalize()}.")
    write_tensors(tensors_path(session.path), tensors)
    study.begin(study_record(session, engine, study.space, recorded, kept))
    return tensors, baseline


def resume_study(
    session: Session, engine: LocalEngine, study: Study, evaluator: Evaluator
) -> tuple[StudyTensors, Baseline]:
    """The recorded directions, and the recorded baseline with its log-probabilities measured again.

    Raises:
        StudyError: the study has other settings, prompts or another model, or its directions are missing.
    """
    record = study.record
    check_same(record, identity(session, engine, study.space), session.path)
    with session.reporter.step("Baseline", len(session.prompts.good_evaluation)) as progress:
        baseline = evaluator.baseline(progress, record.baseline)
    tensors = read_tensors(tensors_path(session.path))
    if wants_residuals(session.settings):
        prompts = filter_direction_prompts(session.prompts, record.telling)
        show_residuals(session, collect_residuals(session, engine, prompts), tensors.directions)
    return tensors, baseline


def first_candidates(space: SearchSpace, settings: SearchSettings) -> list[AblationParameters]:
    """The front of the study that `warm_start` names, then the ablations of the literature; `n_trials` at most.

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
                f"The trials of {study.path} don't fit this search space ({error}). Give --warm-start the study of a "
                "model with the same components, searched with the same method, or leave it out."
            ) from error
    if settings.literature_trials:
        candidates += space.literature()
    return candidates[: settings.n_trials]


def _measure_baseline(evaluator: Evaluator, reporter: Reporter) -> Baseline:
    with reporter.step("Baseline", evaluator.rows) as progress:
        try:
            return evaluator.baseline(progress)
        except CandidateError as error:
            raise ModelError(f"The baseline can't be measured: {error}. Try another dtype (dtypes).") from error
