"""Optuna samplers by name."""

from typing import Any, Literal

from ..ablation.methods.base import SearchSpace
from ..ablation.parameters import AblationParameters

SamplerName = Literal["tpe", "tpe-multivariate", "random"]


def make_sampler(name: SamplerName, seed: int, n_startup_trials: int, n_ei_candidates: int) -> Any:
    """The sampler; its constant liar keeps candidates that are asked for together apart."""
    import optuna

    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(
        seed=seed,
        n_startup_trials=n_startup_trials,
        n_ei_candidates=n_ei_candidates,
        multivariate=name == "tpe-multivariate",
        constant_liar=True,
    )


def resumed_seed(seed: int, n_trials: int) -> int:
    """Optuna restarts its random numbers with each process: a resumed study must not draw its start-up trials again."""
    return seed if n_trials == 0 else (seed * 1_000_003 + n_trials) % 2**32


class RandomDraws:
    """Candidates drawn uniformly: the same whether they are drawn together or one by one."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        import optuna

        self._space = space
        self._study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))

    def next(self, count: int) -> list[AblationParameters]:
        return [self._space.suggest(self._study.ask()) for _ in range(count)]
