"""The effect of rounding on a search's metrics: `python benchmarks/rounding.py [--candidates 6]`.

Fully evaluates candidates of SmolLM2-135M-Instruct: in bfloat16 by the plain path with two batch sizes (nothing
shared, no row leaves, the library's attention and weights), by the path of a search with all its shortcuts, and in
float32 by both. For pairs of these, prints in how many responses the verdict differs, and how far refusals and KL
divergence are apart. A product with another number of rows is summed in another order, and greedy decoding then
chooses another token at a near tie. So two batch sizes of the plain path show how much of a difference is
rounding, and not due to a shortcut.
"""

import argparse
from dataclasses import dataclass
from typing import Literal

from common import demo_engine, demo_prompts, demo_settings, mean_residuals

# isort: split
import optuna

from heretic.ablation.directions import find_directions
from heretic.ablation.edit import ModelEdit
from heretic.ablation.methods.kernel.compile import compile_edit
from heretic.ablation.methods.kernel.space import KernelSpace
from heretic.ablation.sites import components_of
from heretic.engine.divergence import kl_divergence
from heretic.engine.local import LocalEngine
from heretic.engine.options import DEFAULT, PLAIN
from heretic.engine.protocol import no_progress
from heretic.evaluation.scorers.base import ScoringRun
from heretic.evaluation.scorers.refusals import MarkerRefusals
from heretic.study.sampler import RandomDraws

Path = Literal["plain", "shortcuts"]


@dataclass(frozen=True)
class Way:
    """A way of measuring. All of them use the directions and edits of float32."""

    dtype: str
    path: Path
    rows: int

    def __str__(self) -> str:
        return f"{self.dtype} {self.path}, {self.rows} rows"


WAYS = (
    Way("float32", "plain", 128),
    Way("float32", "shortcuts", 128),
    Way("bfloat16", "plain", 128),
    Way("bfloat16", "plain", 48),
    Way("bfloat16", "shortcuts", 128),
)
PAIRS = ((0, 1), (2, 3), (2, 4), (3, 4), (0, 2), (0, 3), (0, 4))


@dataclass(frozen=True)
class Verdicts:
    """Whether a candidate refused each prompt, and its KL divergence."""

    declined: list[bool]
    kl: float


class Measuring:
    def __init__(self, arguments: argparse.Namespace) -> None:
        self._settings = demo_settings()
        good_d, bad_d, good, bad = demo_prompts(self._settings)
        self._good, self._bad = good[: arguments.prompts], bad[: arguments.prompts]
        engine = self._engine(WAYS[1])
        directions = find_directions(mean_residuals(engine, good_d), mean_residuals(engine, bad_d))
        stats = engine.weight_stats(directions, no_progress)
        space = KernelSpace(components_of(engine.sites), len(engine.loaded.layers) - 1)
        drawn = RandomDraws(space, arguments.seed).next(arguments.candidates)
        self._edits: list[ModelEdit] = [compile_edit(each, directions, engine.sites, stats) for each in drawn]

    def __call__(self, way: Way) -> list[Verdicts]:
        engine, shortcuts = self._engine(way), way.path == "shortcuts"
        scorer = MarkerRefusals(
            self._bad, self._settings.refusal_markers, self._settings.max_response_length, stop_decided=shortcuts
        )
        [baseline] = engine.first_token_log_probabilities(self._good, [{}], no_progress)
        found = []
        for edit in self._edits:
            [log_probabilities] = engine.first_token_log_probabilities(self._good, [edit], no_progress)
            kl = float(kl_divergence(baseline, log_probabilities).double().mean())
            [responses] = scorer.responses(ScoringRun(engine), [edit])
            found.append(Verdicts([scorer.is_refusal(response) for response in responses], kl))
        return found

    def _engine(self, way: Way) -> LocalEngine:
        options = DEFAULT if way.path == "shortcuts" else PLAIN
        return demo_engine(demo_settings(dtypes=[way.dtype]), way.rows, options)


def apart(one: list[Verdicts], other: list[Verdicts]) -> str:
    pairs = list(zip(one, other, strict=True))
    verdicts = [sum(a != b for a, b in zip(x.declined, y.declined, strict=True)) for x, y in pairs]
    refusals = max(abs(sum(x.declined) - sum(y.declined)) for x, y in pairs)
    kl = max(abs(x.kl - y.kl) for x, y in pairs)
    share = max(abs(x.kl - y.kl) / x.kl for x, y in pairs)
    total = sum(len(x.declined) for x in one)
    return f"| {sum(verdicts)} of {total} | {max(verdicts)} | {refusals} | {kl:.1e} ({share:.2%}) |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prompts", type=int, default=100)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    measuring = Measuring(arguments)
    found = []
    for way in WAYS:
        found.append(measuring(way))
        figures = ", ".join(f"{sum(each.declined)} at {each.kl:.4f}" for each in found[-1])
        print(f"{way}: refusals at KL {figures}", flush=True)
    print("\n| | other verdicts | most of a candidate | most refusals apart | largest difference of KL |")
    print("| --- | --- | --- | --- | --- |")
    for one, other in PAIRS:
        print(f"| {WAYS[one]} and {WAYS[other]} {apart(found[one], found[other])}")


if __name__ == "__main__":
    main()
