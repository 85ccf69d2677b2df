"""Calls of the driver's engine that actors run, besides measuring candidates."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from ...ablation.directions import Directions
from ...ablation.edit import ModelEdit
from ...ablation.weight_stats import WeightStats
from ...engine.learning import runners
from ...engine.learning.rows import Row
from ...engine.local import LocalEngine
from ...engine.protocol import Engine, IsSettled, Progress, Response
from ...engine.site_outputs import site_outputs
from ...evaluation.heldout.divergences import null_divergences
from ...evaluation.heldout.evaluate import HeldoutBaseline, HeldoutEvaluator, HeldoutOutcome, HeldoutRequest
from ...evaluation.heldout.measurer import SharedForwards
from ...prompts.prompt import Prompt

Indices = list[int]


def residuals(engine: LocalEngine, prompts: Sequence[Prompt], *, progress: Progress) -> list[tuple[Indices, Tensor]]:
    return list(engine.residuals(prompts, progress))


def outputs_of_sites(
    engine: LocalEngine, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]], *, progress: Progress
) -> list[tuple[Indices, Mapping[str, Tensor]]]:
    found: list[tuple[Indices, Mapping[str, Tensor]]] = []
    for indices, outputs in site_outputs(engine, prompts, answers):
        found.append((indices, {name: each.cpu() for name, each in outputs.items()}))
        progress(len(indices))
    return found


def first_tokens(
    engine: LocalEngine, prompts: Sequence[Prompt], edits: Sequence[ModelEdit], *, progress: Progress
) -> Tensor:
    return engine.first_token_log_probabilities(prompts, edits, progress).cpu()


def generate(
    engine: LocalEngine,
    prompts: Sequence[Prompt],
    edits: Sequence[ModelEdit],
    max_new_tokens: int,
    is_settled: IsSettled | None,
    *,
    progress: Progress,
) -> list[list[Response]]:
    return engine.generate(prompts, edits, max_new_tokens, is_settled, progress)


def answers(
    engine: LocalEngine,
    prompts: Sequence[Prompt],
    forced: Sequence[Sequence[int]],
    edits: Sequence[ModelEdit],
    *,
    progress: Progress,
) -> list[tuple[int, Tensor]]:
    found = engine.answer_log_probabilities(prompts, forced, edits, progress)
    return [(index, each.cpu()) for index, each in found]


def weight_statistics(engine: LocalEngine, directions: Directions, *, progress: Progress) -> Mapping[str, WeightStats]:
    return engine.weight_stats(directions, progress)


def divergences_from_itself(
    engine: LocalEngine, prompts: Sequence[Prompt], responses: Sequence[Response], *, progress: Progress
) -> tuple[Tensor, Tensor]:
    return null_divergences(engine, prompts, responses)


def fault_of_gradients(engine: LocalEngine, first_layer: int, rows: Sequence[Row], *, progress: Progress) -> str | None:
    with torch.inference_mode(False):
        return runners.fault_of_gradients(engine, first_layer, rows)


def heldout(
    engine: LocalEngine,
    evaluator_of: Callable[[Engine], HeldoutEvaluator],
    requests: Sequence[HeldoutRequest],
    baseline: HeldoutBaseline,
    *,
    progress: Progress,
) -> list[HeldoutOutcome]:
    results = SharedForwards(len(requests)).candidates(evaluator_of(engine), requests, baseline, progress)
    return [result.outcome for result in results]
