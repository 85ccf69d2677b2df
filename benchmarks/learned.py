"""How far learned edits get: `python benchmarks/learned.py PLAN.jsonl [--out FILE] [--time SECONDS] [--preset NAME]`.

Each line of the plan is one path: settings of `LearningSettings` by name, and `name`, `scope` (layer or site),
`readers`, `rank`, `start` (a strength), `first` (the first edited layer as a share of the layers), `piece` (tokens of a
refusal that are scored), `late` (also the piece that ends with the marker), `openings` (the behaviour is shown by
openings too, not by markers alone), `refresh` (responses generated between points), `keep` (answers to bad prompts that
are kept: none, baseline, or all), `seed`, and `preset` in place of --preset. `measured_at` are numbers by which the
strengths of each point are multiplied; `candidates` (pairs of a point's number and such a number) replaces it. Each is
measured by itself. Paths with the same number of steps run in the same forwards, `--beside` at a time.

A line with `kernel`, a recorded trial's parameters, is measured as it is. Baselines and kernels come first.

All are measured by generation on the search prompts and on the held-out report prompts: one line of JSON each, at once;
a table follows last. Runs on a CPU or a GPU; `--limit N` takes the first N prompts of every set, to see that it works.
"""

import argparse
import json
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from heretic.ablation.directions import Directions
from heretic.ablation.edit import ModelEdit, SiteEdit
from heretic.ablation.methods.learned.layout import compile_learned, layout_of, start_at_means
from heretic.config import Settings
from heretic.engine.learning.forward import AnswerForward
from heretic.engine.learning.path import LearnedPoint, LearningSettings, PathLearner
from heretic.engine.learning.step import MOST_POSITIONS, StepRunner
from heretic.engine.learning.targets import Targets, baseline_targets, behaviour_end_of, response_targets
from heretic.engine.learning.walk import Refresh, learn_paths
from heretic.engine.local import LocalEngine
from heretic.engine.options import EngineOptions
from heretic.engine.protocol import Response, no_progress
from heretic.evaluation.heldout.response_classes import repeats
from heretic.model.chat.format import chat_format
from heretic.model.loading.checkpoint import find_checkpoint
from heretic.model.loading.demo_model import demo_model
from heretic.model.loading.load import load_model
from learned_figures import ANSWER, Bench, print_table

OWN = {
    *("name", "scope", "readers", "rank", "start", "first", "piece", "late", "openings", "refresh", "keep", "seed"),
    *("preset", "measured_at", "candidates"),
}
BASE: dict[str, Any] = {
    "scope": "layer", "readers": False, "rank": 1, "start": 0.9, "first": 8 / 30, "piece": 10, "late": False,
    "openings": False, "refresh": 0, "keep": "none", "seed": 0, "lambdas": [1.0], "first_steps": 28, "steps": 12,
    "measured_at": [1.0], "candidates": None, "loops": 0.0, "skipped": 0, "later": 1.0, "bad": 1.0,
}  # fmt: skip


class Plan:
    """One line of the plan: how its path begins, the rows it learns from, and what is generated between points."""

    def __init__(self, bench: Bench, given: dict[str, Any]) -> None:
        self.bench = bench
        self.given = BASE | given
        wanted = {key: value for key, value in self.given.items() if key not in OWN}
        self.settings = LearningSettings(**wanted | {"lambdas": tuple(self.given["lambdas"])})
        decode = bench.chat.decode
        shown = bench.shown if self.given["openings"] else bench.markers.holds_marker
        self.behaviour_end = behaviour_end_of(shown, decode)
        loaded = bench.engine.loaded
        gains = {site.module: bench.engine.gain(site) for site in loaded.sites}
        first = round(self.given["first"] * len(loaded.layers))
        self.layout = layout_of(loaded.sites, gains, first, self.given["scope"])
        self.generator = torch.Generator().manual_seed(self.given["seed"])

    def scales(self, point: int) -> list[tuple[int, float]]:
        """The numbers by which the point's strengths are multiplied, each with its place in the order of measuring."""
        if self.given["candidates"] is None:
            return [(place, scale) for place, scale in enumerate(self.given["measured_at"])]
        return [(place, scale) for place, (number, scale) in enumerate(self.given["candidates"]) if number == point]

    def learner(self) -> PathLearner:
        bench, given = self.bench, self.given
        directions = [bench.directions]
        for _ in range(given["rank"] - 1):
            noise = torch.randn(directions[0].vectors.shape, generator=self.generator)
            directions.append(Directions(torch.nn.functional.normalize(noise, dim=-1)))
        start = start_at_means(self.layout, directions, given["start"], given["readers"])
        device = bench.engine.loaded.device
        return PathLearner(self.layout, start, self.targets(), self.settings, self.generator, device)

    def targets(self) -> Targets:
        bench, given = self.bench, self.given
        tokens = [[bench.chat.tokens(prompt) for prompt in prompts] for prompts in (bench.good, bench.bad)]
        found = baseline_targets(
            tokens[0], bench.good_answers, tokens[1], bench.bad_answers, self.behaviour_end, given["piece"]
        )
        refusals = found.refusals
        if not given["late"]:
            first = {each.row.prompt: each for each in refusals if each.places[0] == 0}
            refusals = tuple(first.values())
        return Targets(found.good, () if given["keep"] == "none" else found.bad, refusals, loops=found.loops)

    def found(self, responses: Sequence[Response], prompts: Sequence[Any]) -> Targets:
        """The prompts that are still declined and, if the plan keeps answers, those that are now answered."""
        if not self.given["refresh"]:
            return Targets((), (), ())
        tokens = [self.bench.chat.tokens(prompt) for prompt in prompts]

        def is_sound(response: Response) -> bool:
            return not repeats(response.text)

        found = response_targets(tokens, responses, self.behaviour_end, self.given["piece"], is_sound=is_sound)
        kept = found.bad if self.given["keep"] == "all" else ()
        return Targets((), kept, found.refusals, loops=found.loops)


def refresh_of(bench: Bench, plans: Sequence[Plan]) -> Refresh:
    """New responses to some bad prompts, the same ones for all paths."""
    generator = torch.Generator().manual_seed(99)
    count = max(plan.given["refresh"] for plan in plans)

    def refresh(numbers: Sequence[int], edits: Sequence[ModelEdit]) -> list[Targets]:
        chosen = torch.randperm(len(bench.bad), generator=generator)[:count].tolist()
        if not chosen:
            return [Targets((), (), ())] * len(numbers)
        prompts = [bench.bad[index] for index in chosen]
        plain = [{name: SiteEdit(each.left, each.right) for name, each in edit.items()} for edit in edits]
        answered = bench.engine.generate(prompts, plain, ANSWER, None, no_progress)
        return [plans[number].found(each, prompts) for number, each in zip(numbers, answered, strict=True)]

    return refresh


def run_group(bench: Bench, plans: Sequence[Plan], out: "Output", checkpoints: bool) -> None:
    begun = time.perf_counter()
    first = min(plan.layout.first_layer for plan in plans)
    pad = bench.chat.tokenizer.pad_token_id
    forward = AnswerForward(bench.engine.loaded, bench.engine.forward, pad, first, checkpoints)
    runner = StepRunner(forward, MOST_POSITIONS if bench.engine.loaded.device.type == "cpu" else None)
    points: list[tuple[Plan, LearnedPoint]] = []
    learners = [plan.learner() for plan in plans]
    for number, point in learn_paths(runner, learners, refresh_of(bench, plans)):
        points.append((plans[number], point))
        took = time.perf_counter() - begun
        print(f"{plans[number].given['name']}: lambda {point.lam}, {point.losses[-1]}, {took:.0f} s", file=sys.stderr)
        if out.late and number == len(plans) - 1:
            break
    learned = time.perf_counter() - begun
    del learners, forward, runner
    if torch.cuda.is_available():
        print(f"peak memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB", file=sys.stderr)
        torch.cuda.empty_cache()
    steps = sum(len(point.losses) for plan, point in points if plan is plans[0])
    print(f"{len(plans)} paths, {steps} steps in {learned:.1f} s", file=sys.stderr, flush=True)
    measure_points(bench, points, out)
    print(f"  measured in {time.perf_counter() - begun - learned:.1f} s", file=sys.stderr, flush=True)


def measure_points(bench: Bench, points: Sequence[tuple[Plan, LearnedPoint]], out: "Output") -> None:
    """Measures the points of all paths: the first candidates of each path, then its second ones, and so on."""
    kept = [
        (place, plan, point, scale)
        for plan, point in points
        if point.dropped is None
        for place, scale in plan.scales(point.number)
    ]
    kept.sort(key=lambda each: each[0])
    for start in range(0, len(kept), bench.at_once):
        if out.late:
            return
        part = kept[start : start + bench.at_once]
        edits = [compile_learned(times(point.tensors, scale), plan.layout) for _, plan, point, scale in part]
        for (_, plan, point, scale), figures in zip(part, bench.measured(edits), strict=True):
            tail = point.losses[-4:]
            extra = {
                "scale": scale,
                "train_kl": sum(each.good for each in tail) / len(tail),
                "train_refusals": sum(each.refusals for each in tail) / len(tail),
                "strength": float(point.tensors["strengths"].abs().median()),
                "steps": sum(
                    len(each.losses) for other, each in points if other is plan and each.number <= point.number
                ),
            }
            out.add(plan.given, figures | extra, lam=point.lam)


def times(tensors: Mapping[str, torch.Tensor], scale: float) -> dict[str, torch.Tensor]:
    return {**tensors, "strengths": tensors["strengths"] * scale}


class Output:
    """Lines of JSON, each written at once. It is `late` once the time for paths is over."""

    def __init__(self, path: Path | None, seconds: float) -> None:
        self._file = path.open("a") if path else sys.stdout
        self._deadline = time.perf_counter() + seconds
        self.lines: list[dict[str, Any]] = []

    @property
    def late(self) -> bool:
        return time.perf_counter() > self._deadline

    def add(self, given: Mapping[str, Any], figures: Mapping[str, Any], lam: float = 0.0) -> None:
        line = {"preset": given["preset"], "name": given["name"], "lam": lam, **figures}
        self.lines.append(line)
        print(json.dumps(line), file=self._file, flush=True)


def measure_kernels(bench: Bench, given: Sequence[Mapping[str, Any]], out: Output) -> None:
    for start in range(0, len(given), bench.at_once):
        part = given[start : start + bench.at_once]
        edits = [bench.kernel_edit(each["kernel"]) for each in part]
        for each, figures in zip(part, bench.measured(edits), strict=True):
            out.add(each, figures)


def of_preset(lines: Sequence[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The plan's lines by preset, in order of their first."""
    for preset in dict.fromkeys(line["preset"] for line in lines):
        yield preset, [line for line in lines if line["preset"] == preset]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--preset", default="disclaimer")
    parser.add_argument("--config", type=Path, help="a TOML file with prompts and markers, in place of the preset")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument(
        "--time",
        type=float,
        default=float("inf"),
        help="seconds, then no path and no measurement begins",
    )
    parser.add_argument("--limit", type=int)
    parser.add_argument("--harmless", type=int, help="over-refusal prompts at most")
    parser.add_argument("--beside", type=int, default=1)
    parser.add_argument("--rows", type=int, default=128, help="rows per forward when responses are generated")
    parser.add_argument("--length", type=int, default=100, help="tokens a response")
    parser.add_argument("--checkpoints", action="store_true")
    parser.add_argument("--static-decode", default="off", choices=["auto", "off"], help="decode by CUDA graphs")
    arguments = parser.parse_args()
    begun = time.perf_counter()
    lines = [json.loads(line) for line in arguments.plan.read_text().splitlines() if line.strip()]
    lines = [{"preset": arguments.preset} | line for line in lines]
    out = Output(arguments.out, arguments.time)
    engine = loaded_engine(arguments)
    for preset, own in of_preset(lines):
        if out.late:
            break
        limits = arguments.limit, arguments.harmless
        bench = Bench(engine, settings_of(arguments, preset), limits, arguments.rows, arguments.length)
        print(f"{preset}: ready after {time.perf_counter() - begun:.1f} s", file=sys.stderr, flush=True)
        out.add({"preset": preset, "name": "baseline"}, bench.baseline())
        measure_kernels(bench, [line for line in own if "kernel" in line], out)
        print(f"{preset}: kernels after {time.perf_counter() - begun:.1f} s", file=sys.stderr, flush=True)
        run_paths(bench, [line for line in own if "kernel" not in line], out, arguments)
    print_table(out.lines)


def loaded_engine(arguments: argparse.Namespace) -> LocalEngine:
    settings = settings_of(arguments, arguments.preset)
    loaded = load_model(find_checkpoint(arguments.model or str(demo_model())), settings, lambda _: None)
    chat = chat_format(loaded.tokenizer, settings.system_prompt, "model")
    return LocalEngine(loaded, chat, arguments.rows, EngineOptions(static_decode=arguments.static_decode))


def settings_of(arguments: argparse.Namespace, preset: str) -> Settings:
    given = tomllib.loads(arguments.config.read_text()) if arguments.config else {"preset": preset}
    return Settings(**given | {"system_prompt": "none", "dtypes": [arguments.dtype]})


def run_paths(bench: Bench, lines: Sequence[dict[str, Any]], out: Output, arguments: argparse.Namespace) -> None:
    plans = [Plan(bench, line) for line in lines]

    def alike(plan: Plan) -> tuple[int, int, int]:
        return plan.settings.first_steps, plan.settings.steps, len(plan.settings.lambdas)

    for _, group in groupby(plans, key=alike):
        together = list(group)
        for start in range(0, len(together), arguments.beside):
            if out.late:
                return
            run_group(bench, together[start : start + arguments.beside], out, arguments.checkpoints)


if __name__ == "__main__":
    main()
