"""The dense refusal score equals log-odds computed by hand; its tokens come from the baseline's responses."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import log_softmax
from torch.testing import assert_close

from heretic.evaluation.scorers.refusal_logodds import (
    LIMIT,
    RefusalTokens,
    find_refusal_tokens,
    greedy_first_tokens,
    mean_log_odds,
    refusal_log_odds,
    refusal_probability,
)


def tokens(*ids: int) -> RefusalTokens:
    return RefusalTokens(ids, 1.0, 1.0)


def log_probabilities(seed: int, prompts: int = 6, vocabulary: int = 50) -> Tensor:
    return log_softmax(3 * torch.randn(prompts, vocabulary, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_logit_of_the_mass(seed: int) -> None:
    rows = log_probabilities(seed)
    mass = rows.double().exp()[:, [3, 7, 11]].sum(dim=-1)
    assert_close(refusal_log_odds(rows, tokens(3, 7, 11)), mass.log() - (1 - mass).log(), rtol=1e-4, atol=1e-5)
    assert mean_log_odds(rows, tokens(3, 7, 11)) == pytest.approx(float(torch.logit(mass).mean()), rel=1e-4)


def test_a_case_by_hand() -> None:
    rows = torch.tensor([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]]).log()
    assert_close(refusal_log_odds(rows, tokens(0, 1)).float(), torch.tensor([math.log(3), -math.log(3)]))
    assert mean_log_odds(rows, tokens(0, 1)) == pytest.approx(0.0, abs=1e-6)


def test_it_falls_as_refusals_become_less_likely() -> None:
    logits = torch.randn(4, 20, generator=torch.Generator().manual_seed(0))
    scores = []
    for push in (4.0, 2.0, 0.0, -2.0, -4.0):
        pushed = logits.clone()
        pushed[:, 5] += push
        scores.append(mean_log_odds(log_softmax(pushed, -1), tokens(5)))
    assert scores == sorted(scores, reverse=True)
    # Between logits the step is the same everywhere: the score has a slope where a count has none.
    assert scores[0] - scores[-1] == pytest.approx(8.0, rel=1e-4)


def test_a_refusal_that_is_all_but_certain_keeps_its_figure() -> None:
    """1 - mass taken as a difference would be 0 or noise here."""
    logits = torch.zeros(1, 3, dtype=torch.float64)
    logits[0, 0] = 18.0
    rows = log_softmax(logits, -1)
    assert float(refusal_log_odds(rows.float(), tokens(0))) == pytest.approx(18.0 - math.log(2), abs=1e-4)


@pytest.mark.parametrize(("certain", "expected"), [(0, LIMIT), (1, -LIMIT)])
def test_impossible_tokens_are_clamped_and_carry_no_mean(certain: int, expected: float) -> None:
    rows = torch.full((1, 3), float("-inf"))
    rows[0, certain] = 0.0
    assert float(refusal_log_odds(rows, tokens(0))) == expected
    assert math.isfinite(mean_log_odds(torch.cat([rows, log_probabilities(0, 9, 3)]), tokens(0)))


def test_nan_stays_nan() -> None:
    rows = log_probabilities(0)
    rows[2] = float("nan")
    assert refusal_log_odds(rows, tokens(1)).isnan().tolist() == [False, False, True, False, False, False]
    assert math.isnan(mean_log_odds(rows, tokens(1)))


def test_the_tokens_are_those_that_refusals_begin_with() -> None:
    first = [40, 40, 40, 40, 19, 19, 7, 7, 7, 3]
    refused = [True, True, True, False, True, True, True, False, False, False]
    found = find_refusal_tokens(first, refused)
    assert found is not None
    assert found.ids == (40, 19)  # 7 begins more answers than refusals
    assert found.coverage == pytest.approx(5 / 6)
    assert found.precision == pytest.approx(5 / 6)


def test_good_prompts_rule_out_a_token_that_begins_everything() -> None:
    assert find_refusal_tokens([40] * 5, [True] * 5) == RefusalTokens((40,), 1.0, 1.0)
    assert find_refusal_tokens([40] * 15, [True] * 5 + [False] * 10) is None
    assert find_refusal_tokens([1, 2], [False, False]) is None


def test_first_tokens_are_the_greedy_ones() -> None:
    rows = log_probabilities(1)
    assert greedy_first_tokens(rows) == [int(row.argmax()) for row in rows]


def test_the_probability_of_refusing_counts_prompts_above_one_half() -> None:
    tokens = RefusalTokens((0,), coverage=1.0, precision=1.0)
    log_probabilities = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.7, 0.3]]).log()
    count, probability = refusal_probability(log_probabilities, tokens)
    assert count == 2
    assert probability == pytest.approx(2.0 / 3)
