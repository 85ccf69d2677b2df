"""Evaluators of tests: scorers without a configuration."""

from collections.abc import Sequence

from heretic.engine.protocol import Engine
from heretic.evaluation.evaluator import Baseline, Evaluation, Evaluator
from heretic.evaluation.scorers.base import BaselineMeasurement, Measurement, Scorer
from heretic.evaluation.scorers.kl import KLDivergence
from heretic.evaluation.scorers.over_refusals import OverRefusals
from heretic.evaluation.scorers.refusals import MarkerRefusals
from heretic.prompts.prompt import Prompt


def evaluator_for(
    engine: Engine,
    good: Sequence[Prompt],
    bad: Sequence[Prompt],
    markers: Sequence[str],
    length: int,
    over: Sequence[Prompt] = (),
) -> Evaluator:
    """KL divergence, refusals by markers, and over-refusals if there are prompts for them."""
    scorers: list[Scorer] = [KLDivergence(good), MarkerRefusals(bad, markers, length)]
    return Evaluator(engine, [*scorers, *([OverRefusals(over, markers, length)] if over else [])])


def evaluation(refusals: int, kl: float, over: int | None = None, probability: float | None = None) -> Evaluation:
    """An evaluation with these values."""
    details = {} if probability is None else {"probability": probability}
    third = {} if over is None else {"over_refusals": Measurement(over)}
    return Evaluation({"refusals": Measurement(refusals, details=details), "kl_divergence": Measurement(kl), **third})


def baseline_of(refusals: int, probability: float | None = None, over: int | None = None) -> Baseline:
    """The measurements of a baseline with these values."""
    details = {} if probability is None else {"probability": probability}
    third = {} if over is None else {"over_refusals": BaselineMeasurement(over)}
    measured = {"kl_divergence": BaselineMeasurement(0.0), "refusals": BaselineMeasurement(refusals, details)}
    return {**measured, **third}
