"""Any model, measured like a candidate."""

from dataclasses import asdict, dataclass
from typing import Any

from ..config import Settings
from ..errors import CandidateError, ModelError
from ..evaluation.evaluator import Baseline, Evaluation
from ..events import Reporter
from ..model.loading.checkpoint import Checkpoint, find_checkpoint
from ..session.engine import make_evaluator, open_engine, release
from ..session.prompts import RunPrompts, load_run_prompts
from ..session.remote_code import settle_trust
from ..session.response_log import counting_evaluator


@dataclass(frozen=True, slots=True)
class ModelEvaluation:
    """Refusals among `prompts` bad prompts, and the KL divergence from the model `against` if there is one."""

    model: str
    against: str | None
    refusals: int
    prompts: int
    kl_divergence: float | None

    def plain(self) -> dict[str, object]:
        """For JSON: the fields, and a `version`."""
        return {"version": 1} | asdict(self)


def evaluate_model(settings: Settings, model: str, base: str | None, reporter: Reporter) -> ModelEvaluation:
    """The model's refusals, and its KL divergence from `base` if there is one.

    Raises:
        ModelError: one of them can't be loaded or measured.
    """
    prompts = load_run_prompts(settings)
    checkpoint = find_checkpoint(model)
    settings = settle_trust(settings, checkpoint, reporter)
    baseline = None
    if base is not None:
        baseline, format_settings = _baseline(settings, base, prompts, reporter)
        # First tokens are compared at the same place: where the base model's answers begin.
        settings = settings.model_copy(update=format_settings)
    refusals, divergence = _measured(settings, checkpoint, prompts, baseline, reporter)
    return ModelEvaluation(model, base, refusals, len(prompts.bad_evaluation), divergence)


def _baseline(
    settings: Settings, base: str, prompts: RunPrompts, reporter: Reporter
) -> tuple[Baseline, dict[str, Any]]:
    """The base's log-probabilities, and the settings that give another model the same chat format."""
    checkpoint = find_checkpoint(base, settings.model_commit)
    settings = settle_trust(settings, checkpoint, reporter)
    engine = open_engine(checkpoint, settings, prompts.all(), None, reporter)
    evaluator = make_evaluator(engine, settings, prompts.good_evaluation.prompts, prompts.bad_evaluation.prompts)
    try:
        with reporter.step(f"Measuring {base}", len(prompts.good_evaluation)) as progress:
            return evaluator.baseline_of(0, progress), engine.chat.as_settings()
    except CandidateError as error:
        raise ModelError(f"{base} can't be measured: {error}. Try another dtype (dtypes).") from error
    finally:
        release(engine)


def _measured(
    settings: Settings, checkpoint: Checkpoint, prompts: RunPrompts, baseline: Baseline | None, reporter: Reporter
) -> tuple[int, float | None]:
    """Refusals, and KL divergence where there is a baseline."""
    engine = open_engine(checkpoint, settings, prompts.all(), None, reporter)
    evaluator = counting_evaluator(engine, settings, prompts, checkpoint.name, reporter)
    with reporter.step(f"Measuring {checkpoint.name}", evaluator.rows_a_candidate) as progress:
        if baseline is None:
            return evaluator.refusals([{}], progress)[0], None
        [evaluation] = evaluator.evaluate([{}], baseline, progress)
    if not isinstance(evaluation, Evaluation):
        raise ModelError(f"{checkpoint.name} can't be measured: {evaluation}. Try another dtype (dtypes).")
    return evaluation.refusals, evaluation.kl_divergence
