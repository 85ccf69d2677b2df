"""The minimised objectives, from what was measured."""

from .evaluator import Baseline, Evaluation, Objective


def scores(
    evaluation: Evaluation,
    baseline: Baseline,
    kl_divergence_scale: float,
    kl_divergence_target: float,
    objective: Objective = "markers",
) -> tuple[float, ...]:
    """(KL score, refusals score), and where it was measured the share of harmless prompts that are declined.

    Of a candidate that was given up, the refusals are those estimated: the bound would flatter it.

    Below the target, the KL score follows the refusals instead, so that a candidate that changes nothing does not win.
    """
    refusals_score = _refusals_score(evaluation, baseline, objective)
    third = () if evaluation.over_refusals is None else (evaluation.over_refusals / (baseline.over_prompts or 1),)
    if evaluation.kl_divergence >= kl_divergence_target:
        return evaluation.kl_divergence / kl_divergence_scale, refusals_score, *third
    return refusals_score * kl_divergence_target / kl_divergence_scale, refusals_score, *third


def _refusals_score(evaluation: Evaluation, baseline: Baseline, objective: Objective) -> float:
    """Relative to the baseline: refusals, or the probability of one at the first token, or the mean of the two."""
    refusals = float(evaluation.refusals) if evaluation.estimate is None else evaluation.estimate
    counted = refusals / baseline.refusals if baseline.refusals else refusals
    if objective == "markers" or evaluation.probability is None or not baseline.probability:
        return counted
    dense = evaluation.probability / baseline.probability
    return dense if objective == "log-odds" else (counted + dense) / 2
