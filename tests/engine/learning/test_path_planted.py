"""Ground truth: the planted behaviour is learned and removed, and nothing else changes."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from heretic.ablation.directions import Directions, find_directions
from heretic.ablation.edit import ModelEdit, SiteEdit
from heretic.ablation.methods.learned.layout import compile_learned, layout_of, principal_directions, start_at_means
from heretic.ablation.residuals import ResidualFitter
from heretic.config import Settings
from heretic.engine.learning.forward import AnswerForward
from heretic.engine.learning.path import LearnedPoint, LearningSettings, PathLearner
from heretic.engine.learning.step import StepRunner
from heretic.engine.learning.targets import Targets, baseline_targets, behaviour_end_of, response_targets
from heretic.engine.learning.walk import learn_paths
from heretic.engine.local import LocalEngine
from heretic.engine.protocol import no_progress
from heretic.evaluation.evaluator import Evaluator
from heretic.evaluation.scorers.refusals import MarkerClassifier
from heretic.evaluation.scorers.registry import build_scorers
from heretic.prompts.prompt import Prompt
from tests.support.planted import PLANTED_LAYER, planted_model, planted_prompts
from tests.support.two_planted import MARKERS, engine_of, two_planted_model

# An answer is two tokens long; steps are small, since all is written at one site.
SETTINGS = LearningSettings(
    lambdas=(1.0,), first_steps=40, steps=1, good_rows=16, bad_rows=8, refusal_rows=24, scored=2, answer_tokens=2,
    margin=3.0, direction_step=0.12, final=0.05,
)  # fmt: skip


def prompts(count: int, bad: bool, seed: int) -> list[Prompt]:
    return [Prompt(text) for text in planted_prompts(count, bad, seed)]


def mean_directions(engine: LocalEngine, good: list[Prompt], bad: list[Prompt]) -> Directions:
    means = []
    for each in (good, bad):
        fitter = ResidualFitter()
        for _, states in engine.residuals(each, no_progress):
            fitter.update(states)
        means.append(fitter.fit())
    return find_directions(*means)


def learner_of(engine: LocalEngine, rank: int, settings: LearningSettings = SETTINGS) -> PathLearner:
    good, bad = prompts(40, False, 1), prompts(40, True, 2)
    [kept], [declined] = (engine.generate(each, [{}], 3, None, no_progress) for each in (good, bad))
    find = behaviour_end_of(MarkerClassifier(MARKERS).holds_marker, engine.chat.decode)
    tokens = [[engine.chat.tokens(prompt) for prompt in each] for each in (good, bad)]
    targets = baseline_targets(tokens[0], kept, tokens[1], declined, find, 2)
    assert len(targets.refusals) == 40
    draw = torch.Generator().manual_seed(0)
    starts = [mean_directions(engine, good, bad)]
    residuals = torch.cat([states for _, states in engine.residuals(bad, no_progress)])
    starts += principal_directions(residuals, starts[0], rank - 1)
    layout = layout_of(engine.sites, {}, PLANTED_LAYER)
    start = start_at_means(layout, starts, 0.9, further=0.9)
    return PathLearner(layout, start, targets, settings, draw, engine.loaded.device)


def learned(engine: LocalEngine, learner: PathLearner) -> LearnedPoint:
    forward = AnswerForward(engine.loaded, engine.forward, 0, learner.layout.first_layer)
    bad = prompts(40, True, 2)
    find = behaviour_end_of(MarkerClassifier(MARKERS).holds_marker, engine.chat.decode)

    def refresh(_: Sequence[int], edits: Sequence[ModelEdit]) -> list[Targets]:
        """What is still declined, in other words too."""
        plain = [{name: SiteEdit(each.left, each.right) for name, each in edit.items()} for edit in edits]
        answered = engine.generate(bad, plain, 3, None, no_progress)
        tokens = [engine.chat.tokens(prompt) for prompt in bad]
        return [response_targets(tokens, each, find, 2) for each in answered]

    *_, (_, point) = learn_paths(StepRunner(forward), [learner], refresh)
    assert point.dropped is None
    return point


def measured(engine: LocalEngine, edit: ModelEdit) -> Any:
    settings = Settings(refusal_markers=MARKERS, max_response_length=3)
    sets = {"good_evaluation_prompts": prompts(24, False, 3), "bad_evaluation_prompts": prompts(24, True, 4)}
    evaluator = Evaluator(engine, build_scorers(settings, sets))
    baseline = evaluator.baseline()
    assert baseline["refusals"].value == 24
    [found] = evaluator.evaluate([edit], baseline)
    return found.metrics


def test_a_planted_direction_is_learned() -> None:
    model, planted = planted_model()
    engine = engine_of(model)
    learner = learner_of(engine, 1)
    point = learned(engine, learner)
    found = measured(engine, compile_learned(point.tensors, learner.layout))
    assert found["refusals"].value == 0
    assert found["kl_divergence"].value < 0.01
    # The attention of this layer alone writes it.
    assert (point.tensors["directions"][0, :, 0] @ planted).abs() > 0.99


@pytest.mark.parametrize(("rank", "fewest", "most"), [(1, 8, 24), (2, 0, 0)])
def test_two_planted_directions_need_rank_two(rank: int, fewest: int, most: int) -> None:
    model, planted = two_planted_model()
    engine = engine_of(model)
    learner = learner_of(
        engine, rank, replace(SETTINGS, direction_step=0.03, lambdas=(1.0, 1.0, 1.0), first_steps=20, steps=20)
    )
    point = learned(engine, learner)
    found = measured(engine, compile_learned(point.tensors, learner.layout))
    assert fewest <= found["refusals"].value <= most
    if rank == 2:
        assert found["kl_divergence"].value < 0.01
        within = torch.linalg.qr(point.tensors["directions"][0])[0]
        assert (planted @ within).norm(dim=-1).min() > 0.95


def test_no_kernel_removes_two_directions() -> None:
    """The difference of means, at any strength."""
    model, _ = two_planted_model()
    engine = engine_of(model)
    learner = learner_of(engine, 1)
    for strength in (0.5, 0.8, 1.0, 1.2, 1.5, 2.0):
        tensors = {name: tensor.detach() for name, tensor in learner.tensors.items()}
        tensors["strengths"] = torch.full_like(tensors["strengths"], strength)
        assert measured(engine, compile_learned(tensors, learner.layout))["refusals"].value > 8
