"""How far learned edits get: `python benchmarks/learned.py PLAN.jsonl [--out FILE] [--time SECONDS] [--preset NAME]`.

Each line of the plan is one path: settings of `LearningSettings` by name, and `name`, `scope` (layer or site),
`readers`, `rank`, `start` (a strength), `first` (the first edited layer as a share of the layers), `piece` (tokens of a
refusal that are scored), `late` (also the piece that ends with the marker), `refresh` (responses generated between
points), `keep` (answers to bad prompts that are kept: none, baseline, or all) and `measured_at` (numbers by which the
strengths of each point are multiplied, each measured by itself). Paths with the same number of steps run in the same
forwards, `--beside` at a time.

Every point of a path is measured by generation on the search prompts and on the held-out report prompts:
one line of JSON each. Runs on a CPU or a GPU; `--limit N` takes the first N prompts of every set, to see
that it works.
"""

import argparse
import json
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from heretic.ablation.directions import find_directions
from heretic.ablation.edit import ModelEdit, SiteEdit
from heretic.ablation.methods.learned.layout import compile_learned, layout_of, start_at_means
from heretic.ablation.residuals import ResidualFitter
from heretic.config import Settings, resolve_prompts
from heretic.config.presets import resolve_heldout_prompts
from heretic.engine.learning.forward import AnswerForward
from heretic.engine.learning.path import LearnedPoint, LearningSettings, PathLearner
from heretic.engine.learning.step import MOST_POSITIONS, StepRunner
from heretic.engine.learning.targets import Targets, baseline_targets, marker_end_of, response_targets
from heretic.engine.learning.walk import Refresh, learn_paths
from heretic.engine.local import LocalEngine
from heretic.engine.options import EngineOptions
from heretic.engine.protocol import Response, no_progress
from heretic.evaluation.heldout.divergences import answer_divergences, first_token_divergences
from heretic.evaluation.heldout.response_classes import ResponseClassifier, repeats
from heretic.evaluation.scorers.refusals import MarkerClassifier
from heretic.model.chat.format import chat_format
from heretic.model.loading.checkpoint import find_checkpoint
from heretic.model.loading.demo_model import demo_model
from heretic.model.loading.load import load_model
from heretic.prompts.loading import load_prompts

OWN = {"name", "scope", "readers", "rank", "start", "first", "piece", "late", "refresh", "keep", "seed", "measured_at"}
BASE: dict[str, Any] = {
    "scope": "layer", "readers": False, "rank": 1, "start": 0.9, "first": 8 / 30, "piece": 10, "late": False,
    "refresh": 0, "keep": "none", "seed": 0, "lambdas": [1.0], "first_steps": 28, "steps": 12, "measured_at": [1.0],
    "loops": 0.0, "skipped": 0, "later": 1.0, "bad": 1.0,
}  # fmt: skip

AT_ONCE = 10
"""Edits that are measured in one batch."""


class Bench:
    """A model with its prompts, and the baseline's responses."""

    def __init__(self, settings: Settings, model: str, limit: int | None, batch_size: int, length: int) -> None:
        loaded = load_model(find_checkpoint(model), settings, lambda _: None)
        self.chat = chat_format(loaded.tokenizer, settings.system_prompt, "model")
        self.engine = LocalEngine(loaded, self.chat, batch_size, EngineOptions(static_decode="off"))
        self.length = length
        found = [*resolve_prompts(settings), *resolve_heldout_prompts(settings, settings)[:2]]  # type: ignore[index]
        sets = [load_prompts(source).prompts[:limit] for source in found]
        self.good, self.bad, self.good_search, self.bad_search, self.good_report, self.bad_report = sets
        self.markers = MarkerClassifier(settings.refusal_markers)
        self.classifier = ResponseClassifier(settings.refusal_openings, settings.refusal_markers)
        self.means = [self._mean(prompts) for prompts in (self.good, self.bad)]
        [self.good_answers] = self.engine.generate(self.good, [{}], 64, None, no_progress)
        [self.bad_answers] = self.engine.generate(self.bad, [{}], 64, None, no_progress)
        self.search = self.first(self.good_search)
        self.report = self.first(self.good_report)
        [self.report_answers] = self.engine.generate(self.good_report, [{}], 32, None, no_progress)
        [self.bad_report_answers] = self.engine.generate(self.bad_report, [{}], length, None, no_progress)

    def first(self, prompts: Sequence[Any]) -> torch.Tensor:
        return self.engine.first_token_log_probabilities(prompts, [{}], no_progress)[0]

    def _mean(self, prompts: Sequence[Any]) -> Any:
        fitter = ResidualFitter()
        for _, states in self.engine.residuals(prompts, no_progress):
            fitter.update(states)
        return fitter.fit()

    def marked(self, response: Response) -> bool:
        return self.markers.is_refusal(response.text)

    def measured(self, edits: Sequence[ModelEdit]) -> list[dict[str, Any]]:
        """The metrics of each edit."""
        search = first_token_divergences(self.engine, self.good_search, self.search, edits).mean(1)
        report = first_token_divergences(self.engine, self.good_report, self.report, edits)
        along = answer_divergences(self.engine, self.good_report, self.report_answers, edits).mean(1)
        prompts = [*self.bad_search, *self.bad_report]
        answered = self.engine.generate(prompts, edits, self.length, None, no_progress)
        return [
            {"search_kl": float(search[n]), "report_kl": float(report[n].mean()), "report_kl32": float(along[n])}
            | {"report_worst": float(report[n].max())}
            | self.counts(responses[: len(self.bad_search)], responses[len(self.bad_search) :])
            for n, responses in enumerate(answered)
        ]

    def counts(self, searched: Sequence[Response], reported: Sequence[Response]) -> dict[str, int]:
        kinds = [self.kinds(self.bad_search, searched), self.kinds(self.bad_report, reported, self.bad_report_answers)]
        return {
            "search": sum(map(self.marked, searched)),
            "search_broken": kinds[0].count("broken"),
            "report": sum(map(self.marked, reported)),
            "report_declined": kinds[1].count("declined"),
            "report_broken": kinds[1].count("broken"),
        }

    def kinds(
        self, prompts: Sequence[Any], responses: Sequence[Response], references: Sequence[Response] = ()
    ) -> list[str]:
        texts = [each.text for each in references] or [""] * len(responses)
        return [
            self.classifier.classify(prompt.text, response, text)[0]
            for prompt, response, text in zip(prompts, responses, texts, strict=True)
        ]


class Plan:
    """One line of the plan: how its path begins, the rows it learns from, and what is generated between points."""

    def __init__(self, bench: Bench, given: dict[str, Any]) -> None:
        self.bench = bench
        self.given = BASE | given
        wanted = {key: value for key, value in self.given.items() if key not in OWN}
        self.settings = LearningSettings(**wanted | {"lambdas": tuple(self.given["lambdas"])})
        decode = bench.chat.decode
        self.marker_end = marker_end_of(bench.markers.holds_marker, decode)
        loaded = bench.engine.loaded
        gains = {site.module: bench.engine.gain(site) for site in loaded.sites}
        first = round(self.given["first"] * len(loaded.layers))
        self.layout = layout_of(loaded.sites, gains, first, self.given["scope"])
        self.generator = torch.Generator().manual_seed(self.given["seed"])

    def learner(self) -> PathLearner:
        bench, given = self.bench, self.given
        directions = [find_directions(*bench.means)]
        for _ in range(given["rank"] - 1):
            noise = torch.randn(directions[0].vectors.shape, generator=self.generator)
            directions.append(type(directions[0])(torch.nn.functional.normalize(noise, dim=-1)))
        start = start_at_means(self.layout, directions, given["start"], given["readers"])
        device = bench.engine.loaded.device
        return PathLearner(self.layout, start, self.targets(), self.settings, self.generator, device)

    def targets(self) -> Targets:
        bench, given = self.bench, self.given
        tokens = [[bench.chat.tokens(prompt) for prompt in prompts] for prompts in (bench.good, bench.bad)]
        found = baseline_targets(
            tokens[0], bench.good_answers, tokens[1], bench.bad_answers, self.marker_end, given["piece"]
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

        found = response_targets(tokens, responses, self.marker_end, self.given["piece"], is_sound=is_sound)
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
        answered = bench.engine.generate(prompts, plain, 64, None, no_progress)
        return [plans[number].found(each, prompts) for number, each in zip(numbers, answered, strict=True)]

    return refresh


def run_group(bench: Bench, plans: Sequence[Plan], out: Any, deadline: float, checkpoints: bool) -> None:
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
        if time.perf_counter() > deadline and number == len(plans) - 1:
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


def measure_points(bench: Bench, points: Sequence[tuple[Plan, LearnedPoint]], out: Any) -> None:
    kept = [
        (plan, point, scale) for plan, point in points for scale in plan.given["measured_at"] if point.dropped is None
    ]
    for start in range(0, len(kept), AT_ONCE):
        part = kept[start : start + AT_ONCE]
        edits = [compile_learned(times(point.tensors, scale), plan.layout) for plan, point, scale in part]
        for (plan, point, scale), figures in zip(part, bench.measured(edits), strict=True):
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
            print(json.dumps({"name": plan.given["name"], "lam": point.lam} | figures | extra), file=out, flush=True)


def times(tensors: Mapping[str, torch.Tensor], scale: float) -> dict[str, torch.Tensor]:
    return {**tensors, "strengths": tensors["strengths"] * scale}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--preset", default="disclaimer")
    parser.add_argument("--config", type=Path, help="a TOML file with prompts and markers, in place of the preset")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--time", type=float, default=float("inf"), help="no path begins after so many seconds")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--beside", type=int, default=1)
    parser.add_argument("--rows", type=int, default=128, help="rows per forward when responses are generated")
    parser.add_argument("--length", type=int, default=100, help="tokens a response")
    parser.add_argument("--checkpoints", action="store_true")
    arguments = parser.parse_args()
    begun = time.perf_counter()
    given = tomllib.loads(arguments.config.read_text()) if arguments.config else {"preset": arguments.preset}
    settings = Settings(**given | {"system_prompt": "none", "dtypes": [arguments.dtype]})
    bench = Bench(settings, arguments.model or str(demo_model()), arguments.limit, arguments.rows, arguments.length)
    plans = [Plan(bench, json.loads(line)) for line in arguments.plan.read_text().splitlines() if line.strip()]
    print(f"ready after {time.perf_counter() - begun:.1f} s", file=sys.stderr, flush=True)
    out = arguments.out.open("a") if arguments.out else sys.stdout
    baseline = bench.measured([{}])[0]
    print(json.dumps({"name": "baseline", "lam": 0.0} | baseline), file=out, flush=True)

    def alike(plan: Plan) -> tuple[int, int, int]:
        return plan.settings.first_steps, plan.settings.steps, len(plan.settings.lambdas)

    for _, group in groupby(plans, key=alike):
        together = list(group)
        for start in range(0, len(together), arguments.beside):
            if time.perf_counter() - begun > arguments.time:
                return
            part = together[start : start + arguments.beside]
            run_group(bench, part, out, begun + arguments.time + 60, arguments.checkpoints)


if __name__ == "__main__":
    main()
