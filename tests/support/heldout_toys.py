"""A held-out evaluation of the planted model, without a study."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from heretic.ablation.edit import ModelEdit, SiteEdit
from heretic.ablation.sites import Site
from heretic.config import Settings
from heretic.engine.local import LocalEngine
from heretic.errors import CandidateError
from heretic.evaluation.heldout.evaluate import HeldoutBaseline, HeldoutEvaluator, HeldoutPrompts, HeldoutRequest
from heretic.evaluation.heldout.measurer import HeldoutMeasurer, HeldoutResult
from heretic.evaluation.heldout.response_classes import ResponseClassifier
from heretic.evaluation.heldout.schema import KLStatistics, ModelMetrics
from heretic.model.chat.format import chat_format
from heretic.model.loading.checkpoint import Checkpoint
from heretic.model.loading.load import LoadedModel
from heretic.model.sites.find import find_sites
from heretic.prompts.prompt import Prompt, PromptSet
from tests.support.planted import planted_model, planted_prompts, planted_tokenizer

SETTINGS = Settings()


def prompt_set(count: int, bad: bool, seed: int) -> PromptSet:
    return PromptSet("planted", tuple(map(Prompt, planted_prompts(count, bad, seed))))


def planted_evaluator(batch_size: int = 64) -> HeldoutEvaluator:
    tokenizer, (model, _) = planted_tokenizer(), planted_model()
    loaded = LoadedModel(Checkpoint("planted", Path()), model, tokenizer, tuple(find_sites(model)))
    engine = LocalEngine(loaded, chat_format(tokenizer, None, "planted"), batch_size)
    prompts = HeldoutPrompts(prompt_set(9, False, 1), prompt_set(7, True, 2), prompt_set(5, False, 3))
    classifier = ResponseClassifier(SETTINGS.refusal_openings, SETTINGS.refusal_markers)
    return HeldoutEvaluator(engine, prompts, classifier, 4)


def planted_requests(evaluator: HeldoutEvaluator, count: int) -> list[HeldoutRequest]:
    """Ablations of the planted direction, each of more sites than the one before."""
    edits = planted_edits(evaluator.engine.sites, count)
    return [HeldoutRequest(10 + number, edit, {}) for number, edit in enumerate(edits)]


def planted_edits(sites: Sequence[Site], count: int) -> list[ModelEdit]:
    """Ablations of the planted direction, each of more sites than the one before."""
    direction = planted_model()[1].unsqueeze(1)
    return [
        {site.module: SiteEdit(direction, direction) for site in sites[: 1 + number * len(sites) // count]}
        for number in range(count)
    ]


def broken_request(evaluator: HeldoutEvaluator) -> HeldoutRequest:
    """Its factors are finite, and its logits hold NaN."""
    left, right = torch.full((64, 1), 3e38), torch.full((64, 1), 1e20)
    return HeldoutRequest(99, {evaluator.engine.sites[-1].module: SiteEdit(left, right)}, {})


def measured(
    measurer: HeldoutMeasurer, evaluator: HeldoutEvaluator, requests: list[HeldoutRequest]
) -> tuple[ModelMetrics, dict[int, ModelMetrics], set[int], int]:
    """(baseline, candidates by trial, trials that can't be measured, prompts counted)."""
    counted: list[int] = []
    first, *results = measurer.measure(evaluator, requests, counted.append)
    assert isinstance(first, HeldoutBaseline)
    found: dict[int, ModelMetrics] = {}
    failed: set[int] = set()
    for result in results:
        assert isinstance(result, HeldoutResult)
        if isinstance(result.outcome, CandidateError):
            failed.add(result.request.trial)
        else:
            found[result.request.trial] = result.outcome
    return first.metrics, found, failed, sum(counted)


def assert_equal(first: ModelMetrics, second: ModelMetrics) -> None:
    """Responses and counts are equal, and real numbers up to the rounding of float32."""
    assert first.trial == second.trial
    assert first.sets == second.sets
    assert first.log_odds == pytest.approx(second.log_odds, abs=1e-4)
    for one, other in ((first.kl_first, second.kl_first), (first.kl_answers, second.kl_answers)):
        assert (one is None) == (other is None)
        if isinstance(one, KLStatistics) and isinstance(other, KLStatistics):
            for name in ("mean", "median", "worst", "low", "high"):
                assert getattr(one, name) == pytest.approx(getattr(other, name), abs=3e-6)
