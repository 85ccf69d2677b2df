"""Whether the sampler's shortcut beyond a thousand trials costs quality.

`python benchmarks/many_trials.py [--seeds 0 1] [--trials 3000] [--arms all some random]`

Each seed searches a space of 2 components and 30 layers with an analytic pair of objectives, which have the shape of
the kernel method's: refusals fall along a sigmoid of what the kernels remove at the layers that decide, in whole
prompts; KL grows with the square of all that they change, more at late layers; both depend on the layer of the
direction.

- all: Optuna's TPE, which fits its densities to all trials;
- some: the same up to 1,000 trials, then densities of some of them (`study/many_trials.py`);
- random: random candidates after the first 1,000 of `some`, which shows what a search without a model gains.

Prints the hypervolume of the front (reference point KL 0.5, all refusals) and the seconds of an ask, by trials.
"""

import argparse
import math
import statistics
import time
from collections import deque
from typing import Any

import optuna

from common import hypervolume
from heretic.ablation.methods.kernel.parameters import KernelParameters
from heretic.ablation.methods.kernel.space import KernelSpace
from heretic.ablation.parameters import AblationParameters
from heretic.config import Settings
from heretic.study.many_trials import MANY
from heretic.study.sampler import SamplerOptions, make_sampler

LAYERS, PROMPTS = 30, 100
SPACE = KernelSpace(("attn.o_proj", "mlp.down_proj"), LAYERS - 1)
OPEN = 16
"""Candidates that are open at once: those of a few actors."""
AT = (1000, 1500, 2000, 3000, 5000, 10000)
Point = tuple[float, float]


def objectives(parameters: AblationParameters) -> Point:
    """(KL, refusals as a share of the prompts)."""
    assert isinstance(parameters, KernelParameters)
    shared = 1.0 if parameters.direction_scope == "global" else 0.8
    index = parameters.direction_index / (LAYERS - 1)
    removed = change = 0.0
    for name, kernel in parameters.kernels.items():
        decides, share = (0.62, 0.6) if name == "attn.o_proj" else (0.7, 0.4)
        for layer in range(LAYERS):
            distance = abs(layer - kernel.max_weight_position) / kernel.min_weight_distance
            weight = 0.0
            if distance <= 1:
                weight = kernel.max_weight + distance * (kernel.min_weight - kernel.max_weight)
            place = layer / (LAYERS - 1)
            # A layer's own direction fits best; one for all layers fits those around its own.
            fits = 0.9 if shared < 1 else math.exp(-(((index - 0.6) / 0.15) ** 2))
            removed += share * weight * fits * math.exp(-(((place - decides) / 0.12) ** 2))
            change += (weight * (0.3 + place**2)) ** 2 * (1.2 - share) * shared
    refusals = PROMPTS / (1 + math.exp(1.3 * (removed - 3.5)))
    return (0.012 + 0.003 * abs(index - 0.6)) * change, round(refusals) / PROMPTS


def search(arm: str, seed: int, trials: int) -> tuple[list[Point], list[float]]:
    """The points of all trials, and the seconds of each ask."""
    defaults = Settings()
    options = SamplerOptions("tpe", seed, defaults.n_startup_trials, defaults.n_ei_candidates)
    sampler: Any = make_sampler(options)
    if arm == "all":
        sampler = optuna.samplers.TPESampler(
            seed=seed,
            n_startup_trials=options.n_startup_trials,
            n_ei_candidates=options.n_ei_candidates,
            multivariate=False,
            constant_liar=True,
        )
    study = optuna.create_study(sampler=sampler, directions=["minimize"] * 2)
    waiting: deque[Any] = deque()
    points: list[Point] = []
    seconds: list[float] = []
    while len(points) < trials:
        if arm == "random" and len(points) == MANY:
            study.sampler = optuna.samplers.RandomSampler(seed=seed)
        while len(waiting) < OPEN:
            started = time.perf_counter()
            trial = study.ask()
            waiting.append((trial, SPACE.suggest(trial)))
            seconds.append(time.perf_counter() - started)
        trial, parameters = waiting.popleft()
        points.append(objectives(parameters))
        study.tell(trial, points[-1])
    return points, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--trials", type=int, default=3000)
    parser.add_argument("--arms", nargs="+", default=["all", "some", "random"], choices=["all", "some", "random"])
    chosen = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    columns = [count for count in AT if count <= chosen.trials]
    print(
        "| trials fitted | seed | " + " | ".join(f"{count} trials" for count in columns) + " | ask, median and mean |"
    )
    print("| --- | --- | " + "--- | " * (len(columns) + 1))
    for seed in chosen.seeds:
        for arm in chosen.arms:
            points, seconds = search(arm, seed, chosen.trials)
            last = seconds[MANY:] or seconds
            cells = [f"{hypervolume(points[:count]):.4f}" for count in columns]
            cells.append(f"{1000 * statistics.median(last):.1f} and {1000 * statistics.mean(last):.1f} ms")
            print(f"| {arm} | {seed} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
