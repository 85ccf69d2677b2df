"""KL divergence equals torch's, and a calculation by hand."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax
from torch.testing import assert_close

from heretic.evaluation.scorers.kl import kl_divergence


def log_probabilities(seed: int, prompts: int = 5, vocabulary: int = 40, spread: float = 2.0) -> Tensor:
    noise = torch.randn(prompts, vocabulary, generator=torch.Generator().manual_seed(seed))
    return log_softmax(spread * noise, dim=-1)


@pytest.mark.parametrize("seed", range(5))
def test_its_mean_is_what_torch_computes(seed: int) -> None:
    baseline, candidate = log_probabilities(seed), log_probabilities(seed + 100)
    ours = kl_divergence(baseline, candidate)
    assert ours.shape == (5,)
    assert_close(ours.mean(), kl_div(candidate, baseline, reduction="batchmean", log_target=True))
    assert (ours.mean() - kl_divergence(candidate, baseline).mean()).abs() > 0.01  # the order matters


@pytest.mark.parametrize("seed", range(5))
def test_it_is_zero_for_the_same_distribution_and_above_for_others(seed: int) -> None:
    baseline = log_probabilities(seed)
    nudged = log_softmax(baseline + 0.1 * log_probabilities(seed + 100), dim=-1)
    assert torch.equal(kl_divergence(baseline, baseline), torch.zeros(5))
    assert (kl_divergence(baseline, nudged) > 0).all()


def test_a_case_by_hand() -> None:
    baseline = torch.tensor([[0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3]]).log()
    candidate = torch.tensor([[0.25, 0.5, 0.25], [1 / 3, 1 / 3, 1 / 3]]).log()
    # 1/2 log 2 + 1/4 log 1/2 + 0 = 1/4 log 2
    assert_close(kl_divergence(baseline, candidate), torch.tensor([math.log(2) / 4, 0.0]))


def test_each_prompt_has_its_own() -> None:
    baseline, candidate = log_probabilities(0), log_probabilities(1)
    apart = torch.cat([kl_divergence(baseline[i : i + 1], candidate[i : i + 1]) for i in range(5)])
    assert_close(kl_divergence(baseline, candidate), apart)


def test_a_token_that_the_baseline_rules_out_adds_nothing() -> None:
    baseline = torch.tensor([[0.5, 0.5, 0.0]]).log()
    assert baseline.isneginf().any()
    for other in ([0.4, 0.4, 0.2], [0.5, 0.5, 0.0]):
        kl = kl_divergence(baseline, torch.tensor([other]).log())
        assert_close(kl, torch.tensor([0.5 * 2 * math.log(0.5 / other[0])]))


def test_a_token_that_only_the_candidate_rules_out_is_infinitely_far() -> None:
    baseline, candidate = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[1.0, 0.0]]).log()
    assert kl_divergence(baseline, candidate).isposinf().all()


def test_nan_stays_nan() -> None:
    baseline = log_probabilities(0)
    assert kl_divergence(baseline, baseline * float("nan")).isnan().all()


def test_small_divergences_in_fp32_are_those_of_fp64() -> None:
    """A vocabulary of real size, changed so little that half precision would not see it."""
    logits = 3 * torch.randn(2, 50_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    nudge = 1e-2 * torch.randn(2, 50_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    exact = [log_softmax(logits, -1), log_softmax(logits + nudge, -1)]
    reference = kl_divergence(*exact)
    ours = kl_divergence(*(each.float() for each in exact))
    assert ours.dtype == torch.float32
    assert reference.min() > 1e-6
    assert_close(ours.double(), reference, rtol=0.05, atol=0)


def test_models_of_other_vocabularies_are_not_compared() -> None:
    from heretic.engine.protocol import no_progress
    from heretic.errors import ModelError
    from heretic.evaluation.scorers.base import BaselineMeasurement, ScoringRun
    from heretic.evaluation.scorers.kl import KLDivergence
    from tests.support.engines import PROMPTS, engine_for

    engine, scorer = engine_for("llama", 8), KLDivergence(PROMPTS)
    run = ScoringRun(engine, no_progress)
    larger = BaselineMeasurement(0.0, tensors=log_probabilities(0, len(PROMPTS), 97))
    with pytest.raises(ModelError, match="96 tokens against 97"):
        scorer.measure(run, [{}], {"kl_divergence": larger})
