"""Fronts of the methods next to each other: the demo's model, prompts and response length, one process.

    .venv/bin/python benchmarks/methods.py --trials 100 --methods kernel oblique learned
    .venv/bin/python benchmarks/methods.py --configs examples/calls-itself-an-ai.toml

For each method, preset or configuration file, and seed: the least KL divergence by number of refusals of 100, searched
and held out, broken held-out responses, hypervolumes, and seconds of processor time, also relative to the first method
of the same run. A learned path has its own number of trials. Studies are kept in --directory; a second call continues
them, and then its seconds are only a part.

Held-out columns have at most --heldout trials, which the search's own metrics chose. On SmolLM2 a method takes minutes
to an hour on a CPU.
"""

import argparse
import os
import resource
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import heretic
from heretic.evaluation.heldout.schema import BAD, OVER_REFUSAL, HeldoutReport, ModelMetrics
from heretic.model.loading.demo_model import demo_model
from heretic.study.history import dominated_volume, hypervolumes
from heretic.study.journal import heldout_path
from heretic.study.pareto import pareto_front

LEVELS = (2, 5, 8, 11, 20, 30)
"""Refusals at most, at which the least KL divergence is printed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--startup", type=int, default=60, help="random trials among them")
    parser.add_argument("--methods", nargs="+", default=["kernel", "oblique", "learned"])
    parser.add_argument("--presets", nargs="+", help="default: disclaimer")
    parser.add_argument("--configs", nargs="+", type=Path, default=[], help="TOML files with prompts and markers")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--heldout", type=int, default=6)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--directory", type=Path, default=Path("methods"))
    arguments = parser.parse_args()
    presets = arguments.presets or ([] if arguments.configs else ["disclaimer"])
    behaviours = {preset: {"preset": preset, "system_prompt": "none"} for preset in presets}
    behaviours |= {path.stem: tomllib.loads(path.read_text()) for path in arguments.configs}
    for behaviour in behaviours:
        for seed in arguments.seeds:
            first = None
            for method in arguments.methods:
                before = processor_time()
                directory = arguments.directory / f"{behaviour}-{method}-{seed}"
                study = searched(arguments, behaviours[behaviour] | {"method": method, "seed": seed}, directory)
                seconds = processor_time() - before
                first = first or seconds
                print(
                    f"{behaviour}, seed {seed}, {method}: {seconds:.0f} s, {seconds / first:.2f} of the first method's"
                )
                show(study)


def processor_time() -> float:
    """Seconds of this process and of those that it started."""
    used = [resource.getrusage(each) for each in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def searched(arguments: argparse.Namespace, given: Mapping[str, Any], directory: Path) -> Any:
    trials = {} if given["method"] == "learned" else {"n_trials": arguments.trials}
    return heretic.search(
        demo_model(),
        dtypes=[arguments.dtype],
        n_startup_trials=arguments.startup,
        heldout_trials=arguments.heldout,
        n_workers=1,
        study_checkpoint_dir=str(directory),
        **given,
        **trials,
    )


def show(study: Any) -> None:
    trials, baseline = study.trials, study.record.baseline
    front = [(each.value("refusals"), each.value("kl_divergence")) for each in pareto_front(trials, baseline)]
    print(f"  {len(trials)} trials, hypervolume {hypervolumes(trials, baseline)[-1]:.4f} on the search prompts")
    print("  searched: " + ", ".join(f"{refusals:.0f} at {kl:.4f}" for refusals, kl in front))
    heldout = HeldoutReport.model_validate_json(heldout_path(study.path).read_bytes())
    print("  held out:  trial  markers  declined  broken  over-refusal  KL first  KL 32")
    for model in heldout.models:
        print(f"  {line_of(model)}")
    held = [(marked(each), each.kl_first.mean) for each in heldout.candidates if each.kl_first]
    losses = [(refusals / max(1, marked(heldout.baseline)), kl) for refusals, kl in held]
    print(f"  hypervolume {dominated_volume(losses):.4f} on the held-out prompts")
    for level in LEVELS:
        print(
            f"  at most {level:2d} refusals: {least(front, level)} searched, {least(held, level)} held out", flush=True
        )


def line_of(model: ModelMetrics) -> str:
    classes, harmless = model.sets[BAD].classes, model.sets.get(OVER_REFUSAL)
    name = "baseline" if model.trial is None else str(model.trial)
    over = f"{harmless.classes.declined.count}/{harmless.classes.declined.of}" if harmless else "-"
    kls = "".join(f"{'-' if each is None else f'{each.mean:.4f}':>9}" for each in (model.kl_first, model.kl_answers))
    counts = f"{classes.markers.count:9d}{classes.declined.count:10d}{classes.broken.count:8d}"
    return f"{name:>16}{counts}{over:>14}{kls}"


def marked(model: ModelMetrics) -> float:
    return float(model.sets[BAD].classes.markers.count)


def least(front: Sequence[tuple[float, float]], level: int) -> str:
    """The least KL divergence at no more than `level` refusals."""
    reached = [kl for refusals, kl in front if refusals <= level]
    return f"{min(reached):.4f}" if reached else "-"


if __name__ == "__main__":
    main()
