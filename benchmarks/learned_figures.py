"""What `learned.py` measures of edits, on the search prompts and on the held-out ones, and the table that it prints."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from heretic.ablation.directions import Directions, find_directions
from heretic.ablation.edit import ModelEdit
from heretic.ablation.methods.kernel.compile import compile_edit
from heretic.ablation.methods.kernel.parameters import KernelParameters
from heretic.ablation.residuals import ResidualFitter
from heretic.ablation.weight_stats import WeightStats
from heretic.config import Settings, resolve_prompts
from heretic.config.presets import resolve_heldout_prompts
from heretic.engine.local import LocalEngine
from heretic.engine.protocol import Response, no_progress
from heretic.evaluation.behaviour import behaviour_of
from heretic.evaluation.heldout.divergences import answer_divergences, first_token_divergences
from heretic.evaluation.heldout.response_classes import ResponseClassifier
from heretic.evaluation.scorers.refusals import MarkerClassifier
from heretic.prompts.loading import load_prompts
from heretic.study.history import dominated_area

LEVELS = (2, 5, 8, 11, 20)
"""Search refusals of 100 at most, at which the table shows the point with the least KL divergence."""
MOST_SCORED = 1024
"""Rows of 32 tokens whose whole vocabulary is in memory at once: 6 GiB in fp32 for 49152 entries."""
ANSWER = 64
"""Tokens of the baseline's answers to direction prompts."""


class Bench:
    """A model with the prompts of one preset, and the baseline's responses. `limits` are those of all prompt sets, and
    of the harmless ones."""

    def __init__(
        self, engine: LocalEngine, settings: Settings, limits: tuple[int | None, int | None], rows: int, length: int
    ) -> None:
        self.engine, self.chat, self.rows, self.length = engine, engine.chat, rows, length
        heldout = resolve_heldout_prompts(settings, settings)
        assert heldout is not None, "expected held-out prompts, found none"
        found = [*resolve_prompts(settings), *heldout]
        sets = [() if source is None else load_prompts(source).prompts[: limits[0]] for source in found]
        self.good, self.bad, self.good_search, self.bad_search, self.good_report, self.bad_report, self.harmless = sets
        self.harmless = self.harmless[: limits[1]]
        self.markers = MarkerClassifier(settings.refusal_markers)
        self.shown = behaviour_of(settings.refusal_markers, settings.refusal_openings)
        self.classifier = ResponseClassifier(settings.refusal_openings, settings.refusal_markers)
        self.directions = find_directions(*[self._mean(prompts) for prompts in (self.good, self.bad)])
        [self.good_answers] = self.engine.generate(self.good, [{}], ANSWER, None, no_progress)
        [self.bad_answers] = self.engine.generate(self.bad, [{}], ANSWER, None, no_progress)
        self.search = self.first(self.good_search)
        self.report = self.first(self.good_report)
        [self.report_answers] = self.engine.generate(self.good_report, [{}], 32, None, no_progress)
        self.bad_report_answers: Sequence[Response] = ()
        self._stats: Mapping[str, WeightStats] | None = None

    def first(self, prompts: Sequence[Any]) -> torch.Tensor:
        return self.engine.first_token_log_probabilities(prompts, [{}], no_progress)[0]

    def _mean(self, prompts: Sequence[Any]) -> Any:
        fitter = ResidualFitter()
        for _, states in self.engine.residuals(prompts, no_progress):
            fitter.update(states)
        return fitter.fit()

    def kernel_edit(self, parameters: Mapping[str, Any]) -> ModelEdit:
        """The edit of a recorded trial's parameters, whose study had the directions of these prompts."""
        if self._stats is None:
            self._stats = self.engine.weight_stats(Directions(self.directions.vectors), no_progress)
        return compile_edit(KernelParameters(**parameters), self.directions, self.engine.sites, self._stats)

    @property
    def at_once(self) -> int:
        """Edits that are measured in one batch."""
        return max(5, self.rows // (len(self.bad_search) + len(self.bad_report) + len(self.harmless)))

    def baseline(self) -> dict[str, Any]:
        """The baseline's own metrics, and its responses for those of edits."""
        [figures] = self.measured([{}])
        return figures

    def measured(self, edits: Sequence[ModelEdit]) -> list[dict[str, Any]]:
        """The metrics of each edit."""
        search = first_token_divergences(self.engine, self.good_search, self.search, edits).mean(1)
        report = first_token_divergences(self.engine, self.good_report, self.report, edits)
        with self.engine.with_batch_size(min(self.rows, MOST_SCORED)):
            along = answer_divergences(self.engine, self.good_report, self.report_answers, edits).mean(1)
        prompts = [*self.bad_search, *self.bad_report, *self.harmless]
        answered = self.engine.generate(prompts, edits, self.length, None, no_progress)
        ends = len(self.bad_search), len(self.bad_search) + len(self.bad_report)
        if not self.bad_report_answers:
            self.bad_report_answers = answered[0][ends[0] : ends[1]]
        return [
            {"search_kl": float(search[n]), "report_kl": float(report[n].mean()), "report_kl32": float(along[n])}
            | {"report_worst": float(report[n].max())}
            | self.counts(responses[: ends[0]], responses[ends[0] : ends[1]])
            | {"over": sum(self.classifier.opens_as_refusal(each.text) for each in responses[ends[1] :])}
            for n, responses in enumerate(answered)
        ]

    def counts(self, searched: Sequence[Response], reported: Sequence[Response]) -> dict[str, int]:
        kinds = [self.kinds(self.bad_search, searched), self.kinds(self.bad_report, reported, self.bad_report_answers)]
        return {
            "search": sum(self.markers.is_refusal(each.text) for each in searched),
            "search_declined": kinds[0].count("declined"),
            "search_broken": kinds[0].count("broken"),
            "report": sum(self.markers.is_refusal(each.text) for each in reported),
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


def print_table(lines: Sequence[Mapping[str, Any]]) -> None:
    """For each preset and name: hypervolumes, and the point that a user would choose at so many search refusals.

    The points are those of the front on the search prompts; their hypervolumes are those on the search prompts, on the
    held-out ones by markers, and by openings (`declined`). With scales above 1, also without them.
    """
    for preset in dict.fromkeys(line["preset"] for line in lines):
        own = [line for line in lines if line["preset"] == preset]
        baseline = next(line for line in own if line["name"] == "baseline")
        print(f"{preset}: baseline {_row(baseline)}")
        for name in dict.fromkeys(line["name"] for line in own if line is not baseline):
            points = [line for line in own if line["name"] == name]
            _print_path(name, points, baseline)
            weaker = [line for line in points if line.get("scale", 1.0) <= 1]
            if len(weaker) < len(points):
                _print_path(f"{name}, no scale above 1", weaker, baseline)


def _print_path(name: str, points: Sequence[Mapping[str, Any]], baseline: Mapping[str, Any]) -> None:
    front = [point for point in points if not any(_dominates(other, point) for other in points)]
    volumes = [
        dominated_area([(point[count] / max(1, baseline[count]), point[kl]) for point in front])
        for count, kl in (("search", "search_kl"), ("report", "report_kl"), ("report_declined", "report_kl"))
    ]
    print(f"  {name}: {len(points)} points, hypervolume " + ", ".join(f"{volume:.4f}" for volume in volumes))
    shown = None
    for level in LEVELS:
        reached = [point for point in front if point["search"] <= level]
        best = min(reached, key=lambda point: point["search_kl"], default=None)
        if best is not None and best is not shown:
            which = f"{best['lam']} x {best['scale']}" if "scale" in best else ""
            print(f"    <= {level:2d}: {which:>10}  {_row(best)}", flush=True)
        shown = best


def _dominates(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    pairs = [(one[key], other[key]) for key in ("search", "search_kl")]
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def _row(line: Mapping[str, Any]) -> str:
    return (
        f"searched {line['search']:3d} at {line['search_kl']:.4f}, declined {line['search_declined']:3d}, broken "
        f"{line['search_broken']:3d}; held out {line['report']:3d} at {line['report_kl']:.4f}, "
        f"{line['report_kl32']:.4f} a token, declined {line['report_declined']:3d}, broken "
        f"{line['report_broken']:3d}, over-refusal {line['over']}"
    )
