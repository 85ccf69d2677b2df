"""Which sampler finds the better front: `python benchmarks/samplers.py [--trials 100] [--seeds 3] [--arms ...]`.

Searches SmolLM2-135M-Instruct with each sampler and several seeds, and prints the hypervolume of the front (refusals
as a share of the baseline's, KL in nats; reference point 1 and 0.5) by number of trials. To make hundreds of trials
affordable, each one uses the first PROMPTS prompts of the packaged search part and TOKENS tokens of a response, by
which most refusals show. With `--json`, one line of JSON for each search goes to standard output, so that runs under
several releases of Optuna can be compared: give the files to `--tables`.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from common import Bench, hypervolume, refusals_and_kl

# isort: split
import optuna

from heretic.ablation.parameters import AblationParameters
from heretic.evaluation.evaluator import Evaluation
from heretic.study.sampler import SamplerOptions
from heretic.study.study import Study

PROMPTS, TOKENS = 32, 12
AT = (10, 20, 30, 40, 60, 80, 100, 150, 200)
ARMS = ("random/60", "tpe/20", "tpe/60", "tpe-multivariate/20", "tpe-multivariate/60")


class SamplerBench(Bench):
    """Evaluates candidates once, though several samplers draw the same ones from a seed."""

    def __init__(self) -> None:
        super().__init__(TOKENS, prompts=PROMPTS)
        self._known: dict[str, Evaluation] = {}

    def evaluate(self, parameters: AblationParameters) -> Evaluation:
        key = parameters.model_dump_json()
        if key not in self._known:
            self._known[key] = super().evaluate(parameters)
        return self._known[key]

    def search(self, arm: str, seed: int, trials: int) -> list[tuple[float, float]]:
        """(KL, refusals share) of each trial, in order."""
        sampler, startup = arm.split("/")
        points = []
        options = SamplerOptions(sampler, seed, int(startup), 128)  # type: ignore[arg-type]
        with (
            tempfile.TemporaryDirectory() as directory,
            Study(Path(directory) / "s.jsonl", self.space, options) as study,
        ):
            for _ in range(trials):
                [candidate] = study.ask(1)
                evaluation = self.evaluate(candidate.parameters)
                study.tell(candidate, evaluation.recorded(), self.evaluator.scores(evaluation, self.baseline))
                refusals, kl = refusals_and_kl(evaluation)
                points.append((kl, refusals / self.baseline_refusals))
        return points


def table(searches: list[dict]) -> str:  # type: ignore[type-arg]
    """Medians over seeds, with the lowest and highest, by arm and Optuna release."""
    lines = []
    columns = [n for n in AT if any(len(each["points"]) >= n for each in searches)]
    lines.append("| sampler/start-up | Optuna | seeds | " + " | ".join(f"{n} trials" for n in columns) + " |")
    lines.append("| --- | --- | --- | " + " | ".join("---" for _ in columns) + " |")
    for arm, release in sorted({(each["arm"], each["optuna"]) for each in searches}):
        runs = [each["points"] for each in searches if (each["arm"], each["optuna"]) == (arm, release)]
        cells = []
        for n in columns:
            volumes = [hypervolume([(p[0], p[1]) for p in points[:n]]) for points in runs if len(points) >= n]
            cells.append(f"{statistics.median(volumes):.3f} ({min(volumes):.3f}-{max(volumes):.3f})" if volumes else "")
        lines.append(f"| {arm} | {release} | {len(runs)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--arms", nargs="+", default=ARMS)
    parser.add_argument("--json", action="store_true", help="one line of JSON a search instead of the table")
    parser.add_argument("--tables", nargs="+", type=Path, help="only print the table of these files")
    arguments = parser.parse_args()
    if arguments.tables:
        lines = [line for path in arguments.tables for line in path.read_text().splitlines()]
        print(table([json.loads(line) for line in lines]))
        return
    bench = SamplerBench()
    print(f"baseline: {bench.baseline_refusals} of {PROMPTS}", file=sys.stderr)
    searches = []
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        for arm in arguments.arms:
            points = bench.search(arm, seed, arguments.trials)
            searches.append({"arm": arm, "seed": seed, "optuna": optuna.__version__, "points": points})
            if arguments.json:
                print(json.dumps(searches[-1]), flush=True)
    if not arguments.json:
        print(table(searches))


if __name__ == "__main__":
    main()
