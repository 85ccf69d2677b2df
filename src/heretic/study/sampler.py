"""Optuna samplers by name."""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

from ..ablation.methods.base import SearchSpace
from ..ablation.parameters import AblationParameters

SamplerName = Literal["tpe", "tpe-multivariate", "random"]


@dataclass(frozen=True, slots=True)
class SamplerOptions:
    """A sampler and its seed; the defaults of the numbers are Optuna's own."""

    name: SamplerName
    seed: int = 0
    n_startup_trials: int = 10
    n_ei_candidates: int = 24

    @property
    def startup(self) -> float:
        """The number of trials that are drawn at random: all of them in random search."""
        return math.inf if self.name == "random" else self.n_startup_trials

    def resumed(self, n_trials: int) -> "SamplerOptions":
        """The options with the seed for a study that has `n_trials`: with the same one, Optuna would draw the same
        start-up trials in each process."""
        return self if n_trials == 0 else replace(self, seed=(self.seed * 1_000_003 + n_trials) % 2**32)


def make_sampler(options: SamplerOptions) -> Any:
    """The sampler; its constant liar spreads out candidates that are requested together."""
    import optuna

    if options.name == "random":
        return optuna.samplers.RandomSampler(seed=options.seed)
    # Importing it takes as long as importing Optuna, which only commands that open a study do.
    from .many_trials import ManyTrialsTPE

    return ManyTrialsTPE(
        seed=options.seed,
        n_startup_trials=options.n_startup_trials,
        n_ei_candidates=options.n_ei_candidates,
        multivariate=options.name == "tpe-multivariate",
        constant_liar=True,
    )


class RandomDraws:
    """Candidates drawn uniformly: the same whether they are drawn together or one by one."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        import optuna

        self._space = space
        self._study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))

    def next(self, count: int) -> list[AblationParameters]:
        return [self._space.suggest(self._study.ask()) for _ in range(count)]
