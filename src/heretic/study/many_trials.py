"""Optuna's TPE for studies of thousands of trials, with a time for each candidate that does not grow with them.

Optuna's own reads all trials again for each parameter of each candidate: with 10,000 trials and 10
parameters, that takes longer than a trial on a large cluster.
"""

import math
from typing import Any

import numpy as np
from optuna.samplers import TPESampler
from optuna.samplers._tpe.sampler import _split_trials
from optuna.trial import TrialState

from .density_cells import DensityCells

MANY = 1_000
"""Trials, finished and running, up to which candidates are exactly Optuna's."""
BEST, OTHERS, OPEN = 50, 350, 100
"""Trials that densities are fitted to beyond that: the best, others, and running ones. benchmarks/many_trials.py shows
what that costs, and benchmarks/cluster.py the time of an ask."""
SHARE = 0.1
"""Share of the finished trials that count as good: Optuna's own for several objectives."""
ASKS, SHARE_OF_OPEN = 16, 0.05
"""Candidates that are drawn from the same densities: 16, or 5 percent of the trials that are open."""

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


class ManyTrialsTPE(TPESampler):
    """TPE that, beyond `MANY` trials, fits its densities to the best trials and some of the others, once for `ASKS`
    candidates."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._best: list[Any] = []
        self._seen: set[int] = set()
        self._many = False
        self._fitted: dict[tuple[str, ...], tuple[Any, Any]] = {}
        self._cells: dict[str, DensityCells] = {}
        self._sides: tuple[list[Any], list[Any]] = [], []
        self._drawn: set[int] = set()
        self._asks = ASKS

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
        if not self._has_many(study, trial):
            return super().sample_independent(study, trial, param_name, param_distribution)
        self._look_again(study, trial)
        if param_name not in self._cells:
            good, others = self._densities(study, {param_name: param_distribution})
            self._cells[param_name] = DensityCells.of(param_name, param_distribution, good, others)
        value = self._cells[param_name].draw(self._rng.rng, self._n_ei_candidates)
        return param_distribution.to_external_repr(value)

    def _sample(self, study: Any, trial: Any, search_space: dict[str, Any]) -> dict[str, Any]:
        if not self._has_many(study, trial):
            return super()._sample(study, trial, search_space)
        self._look_again(study, trial)
        names = tuple(search_space)
        if names not in self._fitted:
            self._fitted[names] = self._densities(study, search_space)
        good, others = self._fitted[names]
        samples = good.sample(self._rng.rng, self._n_ei_candidates)
        best = int(np.argmax(good.log_pdf(samples) - others.log_pdf(samples)))
        return {name: each.to_external_repr(samples[name][best].item()) for name, each in search_space.items()}

    def _densities(self, study: Any, search_space: dict[str, Any]) -> tuple[Any, Any]:
        """Optuna's densities of good trials and of others."""
        good, others = self._sides
        return (
            self._build_parzen_estimator(study, search_space, good, handle_below=True),
            self._build_parzen_estimator(study, search_space, others, handle_below=False),
        )

    def _has_many(self, study: Any, trial: Any) -> bool:
        # Trials are numbered from 0, failed and waiting ones included: only then are they counted.
        if not self._many and trial.number >= MANY:
            counted = study._get_trials(deepcopy=False, states=(*FINISHED, TrialState.RUNNING), use_cache=True)
            finished = sum(each.state in FINISHED for each in counted)
            self._many = len(counted) > MANY and finished >= max(BEST, self._n_startup_trials)
        return self._many

    def _look_again(self, study: Any, trial: Any) -> None:
        """Divides the trials for new densities, if enough candidates were drawn from the last ones."""
        if trial.number not in self._drawn:
            if len(self._drawn) == self._asks or not self._drawn:
                self._look(study, trial)
            self._drawn.add(trial.number)

    def _look(self, study: Any, trial: Any) -> None:
        """Divides the trials that are kept, those finished since the last time, and running ones, for new densities."""
        trials = study._get_trials(deepcopy=False, states=(*FINISHED, TrialState.RUNNING), use_cache=False)
        finished = [each for each in trials if each.state in FINISHED]
        new = [each for each in finished if each.number not in self._seen]
        self._seen.update(each.number for each in new)
        # As many as may ever count as good: early on fewer do, where most trials are still running.
        self._best, _ = _split_trials(study, [*self._best, *new], BEST)
        good, _ = _split_trials(study, self._best, min(BEST, math.ceil(SHARE * len(finished))))
        best = {each.number for each in good}
        running = [each for each in trials if each.state == TrialState.RUNNING and each.number != trial.number]
        # From the whole study: the newest alone are nearly as good as the best, and would not differ from them.
        others = _spread([each for each in finished if each.number not in best], OTHERS) + _spread(running, OPEN)
        self._sides = good, sorted(others, key=lambda each: int(each.number))
        self._fitted, self._cells, self._drawn = {}, {}, set()
        self._asks = max(ASKS, round(SHARE_OF_OPEN * len(running)))


def _spread(trials: list[Any], count: int) -> list[Any]:
    """At most `count` of the trials, at equal distances."""
    return trials[:: max(1, math.ceil(len(trials) / count))]
