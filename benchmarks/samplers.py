"""Which sampler finds the better front: `python benchmarks/samplers.py [--trials 100] [--seeds 3] [--arms ...]`.

Searches SmolLM2-135M-Instruct again and again, with each sampler and several seeds, and prints the hypervolume of the
front (refusals as a share of the baseline's, KL in nats; reference point 1 and 0.5) against the number of trials. To
make hundreds of trials affordable each one measures the first PROMPTS prompts of the packaged search part and TOKENS
tokens of a response, by which most refusals show. One line of JSON a search goes to standard output (with `--json`), so
that runs under several releases of Optuna can be put side by side: give the files to `--tables`.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TQDM_DISABLE", "1")

import optuna

from heretic.ablation.compile import compile_edit
from heretic.ablation.directions import find_directions
from heretic.ablation.parameters import AblationParameters
from heretic.ablation.sites import components_of
from heretic.config import Settings, resolve_prompts
from heretic.engine.local import LocalEngine
from heretic.engine.protocol import no_progress
from heretic.evaluation.evaluator import Evaluation, Evaluator, Objective
from heretic.evaluation.scores import scores
from heretic.model.chat.format import chat_format
from heretic.model.loading.checkpoint import find_checkpoint
from heretic.model.loading.demo_model import demo_model
from heretic.model.loading.load import load_model
from heretic.prompts.loading import load_prompts
from heretic.study.space import SearchSpace
from heretic.study.study import Study
from trial import mean_residuals

PROMPTS, TOKENS = 32, 12
REFERENCE = (0.5, 1.0)
AT = (10, 20, 30, 40, 60, 80, 100, 150, 200)
ARMS = ("random/60", "tpe/20", "tpe/60", "tpe-multivariate/20", "tpe-multivariate/60")


class Bench:
    """One model, its directions and its baseline; measures any parameters in full."""

    def __init__(
        self,
        tokens: int = TOKENS,
        objective: Objective = "markers",
        prompts: int = PROMPTS,
        dtypes: Sequence[str] = ("auto",),
    ) -> None:
        settings = Settings(preset="disclaimer", system_prompt="none", max_response_length=tokens, dtypes=list(dtypes))
        good_d, bad_d, good, bad = (load_prompts(source).prompts for source in resolve_prompts(settings))
        loaded = load_model(find_checkpoint(str(demo_model())), settings, lambda _: None)
        self.engine = LocalEngine(loaded, chat_format(loaded.tokenizer, "none", "SmolLM2"), 64)
        self.directions = find_directions(mean_residuals(self.engine, good_d), mean_residuals(self.engine, bad_d))
        self.bad = bad
        self.stats = self.engine.weight_stats(self.directions, no_progress)
        self.space = SearchSpace(components_of(self.engine.sites), len(loaded.layers) - 1)
        self.evaluator = Evaluator(
            self.engine, good[:prompts], bad[:prompts], settings.refusal_markers, tokens, objective=objective
        )
        self.baseline = self.evaluator.baseline()
        self.measured: dict[str, Evaluation] = {}

    def measure(self, parameters: AblationParameters) -> Evaluation:
        """In full; once for what several samplers draw from the same seed."""
        key = parameters.model_dump_json()
        if key not in self.measured:
            edit = compile_edit(parameters, self.directions, self.engine.sites, self.stats)
            [evaluation] = self.evaluator.evaluate([edit], self.baseline)
            assert isinstance(evaluation, Evaluation)
            self.measured[key] = evaluation
        return self.measured[key]

    def random_parameters(self, count: int, seed: int) -> list[AblationParameters]:
        with tempfile.TemporaryDirectory() as directory, Study(Path(directory) / "s.jsonl", self.space) as study:
            study.use_sampler("random", seed, count, 1)
            return [candidate.parameters for candidate in study.ask(count)]

    def search(self, arm: str, seed: int, trials: int) -> list[tuple[float, float]]:
        """(KL, refusals share) of each trial, in order."""
        sampler, startup = arm.split("/")
        points = []
        with tempfile.TemporaryDirectory() as directory, Study(Path(directory) / "s.jsonl", self.space) as study:
            study.use_sampler(sampler, seed, int(startup), 128)  # type: ignore[arg-type]
            for _ in range(trials):
                [candidate] = study.ask(1)
                evaluation = self.measure(candidate.parameters)
                objectives = scores(evaluation, self.baseline, 1.0, 0.01)
                study.tell(candidate, evaluation.refusals, evaluation.kl_divergence, objectives)
                points.append((evaluation.kl_divergence, evaluation.refusals / self.baseline.refusals))
        return points


def hypervolume(points: list[tuple[float, float]]) -> float:
    """The area that points dominate below REFERENCE."""
    area, best = 0.0, REFERENCE[1]
    for x, y in sorted(points):
        if x < REFERENCE[0] and y < best:
            area += (REFERENCE[0] - x) * (best - y)
            best = y
    return area / (REFERENCE[0] * REFERENCE[1])


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
    bench = Bench()
    print(f"baseline: {bench.baseline.refusals} of {bench.baseline.prompts}", file=sys.stderr)
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
