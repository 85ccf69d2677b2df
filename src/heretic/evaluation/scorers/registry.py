"""All scorers, in the order of the objectives that the sampler minimises."""

from collections.abc import Sequence

from ...config import EvaluationSettings
from ..heldout.schema import KLStatistics, ModelMetrics, Rate
from .base import PromptSets, Scorer
from .kl import KLDivergence
from .over_refusals import OverRefusals
from .refusal_logodds import FirstTokenRefusals, MixedRefusals
from .refusals import MarkerRefusals

SCORERS: tuple[type[Scorer], ...] = (KLDivergence, MarkerRefusals, FirstTokenRefusals, MixedRefusals, OverRefusals)


def build_scorers(settings: EvaluationSettings, prompts: PromptSets) -> list[Scorer]:
    """The scorers that a run asks for, one an objective."""
    built = [kind.build(settings, prompts) for kind in SCORERS]
    return [scorer for scorer in built if scorer is not None]


def heldout_metric(name: str, model: ModelMetrics) -> Rate | KLStatistics | None:
    """The held-out counterpart of a metric of the search; None if there is none, or no scorer of that name."""
    scorer: type[Scorer] | None = next((kind for kind in SCORERS if kind.name == name), None)
    return None if scorer is None else scorer.heldout(model)


def objective_names(scorers: Sequence[Scorer]) -> list[str]:
    """The names of the objectives in Optuna's own record."""
    return [f"{scorer.label} score" for scorer in scorers]
