"""Any model, measured like a candidate."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..config import Settings
from ..config.changes import changed
from ..errors import CandidateError, ModelError
from ..evaluation.evaluator import Baseline, Evaluation
from ..events import Reporter
from ..export.manifest import MANIFEST, TEMPLATE_KEYS, recorded_template
from ..model.loading.checkpoint import Checkpoint, find_checkpoint
from ..session.engine import make_evaluator, open_engine, release
from ..session.prompts import RunPrompts, load_run_prompts
from ..session.remote_code import settle_trust
from ..session.response_log import counting_evaluator
from ..study.metrics import BaselineMetric


@dataclass(frozen=True, slots=True)
class ModelEvaluation:
    """A model's metrics by name; None for those that need a model `against` which to compare, if there is none."""

    model: str
    against: str | None
    metrics: Mapping[str, BaselineMetric | None]

    def plain(self) -> dict[str, object]:
        """For JSON: a `version`, the number of bad `prompts`, and the metrics' values by name."""
        known = [metric for metric in self.metrics.values() if metric is not None]
        return {
            "version": 1,
            "model": self.model,
            "against": self.against,
            "prompts": next((metric.of for metric in known if metric.of is not None), None),
            **{name: None if metric is None else metric.value for name, metric in self.metrics.items()},
        }


def evaluate_model(settings: Settings, model: str, base: str | None, reporter: Reporter) -> ModelEvaluation:
    """The model's metrics, and those that compare it with `base` if there is one.

    Raises:
        ModelError: one of them can't be loaded or measured.
    """
    # The first token of a refusal is known from a baseline alone; markers need none.
    settings = changed(settings, {"objective": "markers"})
    prompts = load_run_prompts(settings)
    for note in prompts.notes:
        reporter.warn(note)
    checkpoint = find_checkpoint(model)
    # An export is asked as its study asked the model that it was made from.
    given = {key for key in TEMPLATE_KEYS if getattr(settings, key)}
    recorded = recorded_template(checkpoint.directory)
    settings = changed(settings, {key: value for key, value in recorded.items() if key not in given}, MANIFEST)
    settings = settle_trust(settings, checkpoint, reporter)
    baseline = None
    if base is not None:
        baseline, format_settings = _baseline(settings, base, prompts, reporter)
        # First tokens are compared at the same place: where the base model's answers begin.
        settings = changed(settings, format_settings)
    measured = _measured(settings, checkpoint, prompts, baseline, reporter)
    return ModelEvaluation(model, base, measured)


def _baseline(
    settings: Settings, base: str, prompts: RunPrompts, reporter: Reporter
) -> tuple[Baseline, dict[str, Any]]:
    """The measurements of the base that others are compared with, and the settings of its chat format."""
    checkpoint = find_checkpoint(base, settings.model_commit)
    settings = settle_trust(settings, checkpoint, reporter)
    engine = open_engine(checkpoint, settings, prompts.all(), None, reporter)
    evaluator = make_evaluator(engine, settings, prompts)
    try:
        with reporter.step(f"Measuring {base}", evaluator.rows) as progress:
            return evaluator.reference(progress), engine.chat.as_settings()
    except CandidateError as error:
        raise ModelError(f"{base} can't be measured: {error}. Try another dtype (dtypes).") from error
    finally:
        release(engine)


def _measured(
    settings: Settings, checkpoint: Checkpoint, prompts: RunPrompts, baseline: Baseline | None, reporter: Reporter
) -> dict[str, BaselineMetric | None]:
    """The model's metrics; None for those that need a baseline if there is none."""
    engine = open_engine(checkpoint, settings, prompts.all(), None, reporter)
    evaluator = counting_evaluator(engine, settings, prompts, checkpoint.name, reporter)
    with reporter.step(f"Measuring {checkpoint.name}", evaluator.rows) as progress:
        [evaluation] = evaluator.evaluate([{}], baseline or {}, progress)
    if not isinstance(evaluation, Evaluation):
        raise ModelError(f"{checkpoint.name} can't be measured: {evaluation}. Try another dtype (dtypes).")
    return evaluator.describe(evaluation)
