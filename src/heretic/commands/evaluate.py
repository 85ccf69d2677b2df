"""Evaluates any model as a search evaluates a candidate."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..config import Settings
from ..config.changes import changed
from ..errors import CandidateError, ModelError
from ..evaluation.evaluator import Baseline, Evaluation
from ..events import Reporter
from ..export.manifest import MANIFEST, TEMPLATE_KEYS, recorded_template
from ..model.loading.checkpoint import Checkpoint, find_checkpoint
from ..session.context import ModelSession
from ..session.engine import make_evaluator, open_engine, release
from ..session.prompts import load_run_prompts
from ..session.remote_code import settle_trust
from ..session.response_log import counting_evaluator
from ..study.metrics import BaselineMetric


@dataclass(frozen=True, slots=True)
class ModelEvaluation:
    """A model's metrics by name; None for those that compare it with a model `against`, if none is given."""

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
    """The model's metrics, and those that compare it with `base` if it is given.

    Raises:
        ModelError: one of them can't be loaded or measured.
    """
    # The first tokens of refusals are known only from a baseline; markers need none.
    settings = changed(settings, {"objective": "markers"})
    prompts = load_run_prompts(settings, settings.over_refusal_objective)
    for note in prompts.notes:
        reporter.warn(note)
    measured = dict.fromkeys(each.source for each in (prompts.bad_evaluation, prompts.good_evaluation))
    reporter.say(f"Prompts: {' and '.join(measured)}. Metrics of other prompts differ: give those of the study.")
    checkpoint = find_checkpoint(model, reporter=reporter)
    # An export gets the template settings of its study.
    given = {key for key in TEMPLATE_KEYS if getattr(settings, key)}
    recorded = recorded_template(checkpoint.directory)
    settings = changed(settings, {key: value for key, value in recorded.items() if key not in given}, MANIFEST)
    unsettled = ModelSession(settings, prompts, checkpoint, reporter)
    session = _for_checkpoint(unsettled, checkpoint)
    baseline = None
    if base is not None:
        base_checkpoint = find_checkpoint(base, settings.model_commit, reporter)
        baseline, chat_format = _baseline(_for_checkpoint(unsettled, base_checkpoint))
        # First tokens are compared at the same position: where the responses of the base begin.
        session = replace(session, settings=changed(session.settings, chat_format))
    return ModelEvaluation(model, base, _metrics(session, baseline))


def _for_checkpoint(session: ModelSession, checkpoint: Checkpoint) -> ModelSession:
    """The session of one of the two models; permission to run code is settled for each."""
    settings = settle_trust(session.settings, checkpoint, session.reporter)
    return replace(session, checkpoint=checkpoint, settings=settings)


def _baseline(session: ModelSession) -> tuple[Baseline, dict[str, Any]]:
    """The base's measurements, with which the other model is compared, and the settings of its chat format."""
    name = session.checkpoint.name
    engine = open_engine(session)
    evaluator = make_evaluator(engine, session.settings, session.prompts)
    try:
        with session.reporter.step(f"Measuring {name}", evaluator.rows) as progress:
            return evaluator.reference(progress), engine.chat.as_settings()
    except CandidateError as error:
        raise ModelError(f"{name} can't be measured: {error}. Try another dtype (dtypes).") from error
    finally:
        release(engine)


def _metrics(session: ModelSession, baseline: Baseline | None) -> dict[str, BaselineMetric | None]:
    """The model's metrics; None for those that need a baseline if there is none."""
    name, reporter = session.checkpoint.name, session.reporter
    engine = open_engine(session)
    evaluator = counting_evaluator(engine, session.settings, session.prompts, name, reporter)
    with reporter.step(f"Measuring {name}", evaluator.rows) as progress:
        [evaluation] = evaluator.evaluate([{}], baseline or {}, progress)
    if not isinstance(evaluation, Evaluation):
        raise ModelError(f"{name} can't be measured: {evaluation}. Try another dtype (dtypes).")
    return evaluator.describe(evaluation)
