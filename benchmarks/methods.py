"""Fronts of the methods beside each other: the demo's model and prompts, the same number of trials, one process.

    .venv/bin/python benchmarks/methods.py --trials 100 --methods kernel oblique

For each method: the front (refusals of 100 at a KL divergence), its hypervolume, and seconds of the search. Studies are
kept in --directory; a second call continues them.
"""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import heretic
from heretic.model.loading.demo_model import demo_model
from heretic.study.history import hypervolumes
from heretic.study.pareto import pareto_front

LEVELS = (2, 5, 8, 11, 20, 30)
"""Refusals at most, at which the least KL divergence is printed."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--startup", type=int, default=60, help="random trials among them")
    parser.add_argument("--methods", nargs="+", default=["kernel", "oblique"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--directory", type=Path, default=Path("methods"))
    arguments = parser.parse_args()
    for method in arguments.methods:
        started = time.perf_counter()
        study = heretic.search(
            demo_model(),
            preset="disclaimer",
            system_prompt="none",
            dtypes=["bfloat16"],
            method=method,
            n_trials=arguments.trials,
            n_startup_trials=arguments.startup,
            seed=arguments.seed,
            heldout_trials=0,
            n_workers=1,
            study_checkpoint_dir=str(arguments.directory / f"{method}-{arguments.seed}"),
        )
        seconds = time.perf_counter() - started
        trials, baseline = study.trials, study.record.baseline
        volume = hypervolumes(trials, baseline)[-1]
        front = [(int(each.value("refusals")), each.value("kl_divergence")) for each in pareto_front(trials, baseline)]
        print(f"{method}: hypervolume {volume:.4f}, {seconds:.0f} s", flush=True)
        print("  " + ", ".join(f"{refusals} at {kl:.4f}" for refusals, kl in front))
        for level in LEVELS:
            reached = [kl for refusals, kl in front if refusals <= level]
            print(f"  at most {level:2d} refusals: {f'{min(reached):.4f}' if reached else '-'}")


if __name__ == "__main__":
    main()
