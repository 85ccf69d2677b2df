"""The two minimised objectives, from what was measured."""

from .evaluator import Evaluation


def scores(
    evaluation: Evaluation, base_refusals: int, kl_divergence_scale: float, kl_divergence_target: float
) -> tuple[float, float]:
    """(KL score, refusals score).

    Of a candidate that was given up, the refusals are those estimated: the bound would flatter it.

    Below the target, the KL score follows the refusals instead, so that a candidate that changes nothing does not win.
    """
    refusals = float(evaluation.refusals) if evaluation.estimate is None else evaluation.estimate
    refusals_score = refusals / base_refusals if base_refusals else refusals
    if evaluation.kl_divergence >= kl_divergence_target:
        return evaluation.kl_divergence / kl_divergence_scale, refusals_score
    return refusals_score * kl_divergence_target / kl_divergence_scale, refusals_score
