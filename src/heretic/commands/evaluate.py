"""Any model, measured as a candidate is."""

import json
from typing import Any

from ..config import Settings
from ..errors import CandidateError, ModelError
from ..evaluation.evaluator import Baseline, Evaluation
from ..events import Reporter
from ..model.loading.checkpoint import Checkpoint, find_checkpoint
from ..report.text import kl
from ..session.engine import make_evaluator, open_engine, release
from ..session.prompts import RunPrompts, load_run_prompts
from ..session.remote_code import settle_trust
from ..session.response_log import counting_evaluator


def evaluate_model(settings: Settings, model: str, base: str | None, as_json: bool, reporter: Reporter) -> str:
    """The model's refusals, and its KL divergence from `base` if there is one, as text or JSON.

    Raises:
        ModelError: one of them can't be loaded or measured.
    """
    prompts = load_run_prompts(settings)
    checkpoint = find_checkpoint(model)
    settings = settle_trust(settings, checkpoint, reporter)
    baseline = None
    if base is not None:
        baseline, format_settings = _baseline(settings, base, prompts, reporter)
        # Both are measured at the same place: where the base's own answers begin.
        settings = settings.model_copy(update=format_settings)
    refusals, divergence = _measured(settings, checkpoint, prompts, baseline, reporter)
    n_prompts = len(prompts.bad_evaluation)
    if as_json:
        figures = {"version": 1, "model": model, "against": base, "refusals": refusals, "prompts": n_prompts}
        return json.dumps(figures | {"kl_divergence": divergence}, indent=2)
    distance = "" if divergence is None else f", KL {kl(divergence)} against {base}"
    return f"{model}: refusals {refusals}/{n_prompts}{distance}"


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
