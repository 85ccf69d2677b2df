"""Mixtures of experts, hybrids with recurrent state, several streams: a batch gives the results of single rows."""

from typing import Any

import pytest
import torch
from family_edits import compiled
from tiny_models import tiny_model
from torch.testing import assert_close

from heretic.engine.forward import Forward
from heretic.engine.kv_cache import is_kv_only, make_cache, select_rows
from heretic.engine.options import PLAIN
from heretic.engine.padding import padding_is_neutral
from heretic.engine.protocol import no_progress
from heretic.errors import ModelError
from heretic.prompts.prompt import Prompt
from tests.support.engines import any_engine
from tests.support.planted import planted_prompts

LENGTHS = [1, 3, 2, 4, 1]
PROMPTS = [
    Prompt(" ".join(text.split() * n)) for text, n in zip(planted_prompts(5, bad=True, seed=5), LENGTHS, strict=True)
]


@pytest.mark.parametrize(
    "family",
    [
        "mixtral",
        "qwen3_5_moe_text",
        "lfm2_moe",
        "bamba",
        "recurrent_gemma",
        "deepseek_v4",
        "longcat_flash",
        "qwen4_exp_text",
        "zaya",
        "deepseek_v32",
        "glm5_next",
        "falcon_mamba",
        "minimax",
    ],
)
def test_a_batch_of_candidates_gives_the_results_of_single_rows(family: str) -> None:
    plain = any_engine(family, 1, PLAIN)
    with torch.inference_mode():
        edits = [{}, compiled(plain.loaded.model, plain.sites, "full")]
    batched = any_engine(family, 16)
    expected = plain.first_token_log_probabilities(PROMPTS, edits, no_progress)
    assert_close(batched.first_token_log_probabilities(PROMPTS, edits, no_progress), expected, atol=1e-4, rtol=1e-4)
    assert (expected[0] - expected[1]).abs().max() > 1e-2
    wanted, found = (each.generate(PROMPTS, edits, 12, None, no_progress) for each in (plain, batched))
    assert [[row.tokens for row in rows] for rows in found] == [[row.tokens for row in rows] for rows in wanted]
    residuals = torch.cat([batch for _, batch in batched.residuals(PROMPTS, no_progress)])
    assert residuals.shape == (len(PROMPTS), len(batched.loaded.layers) + 1, 32)


def test_rows_are_selected_from_recurrent_state() -> None:
    model = tiny_model("lfm2_moe")
    forward, ids = Forward(model), torch.arange(3, 12).view(3, 3)
    cache = make_cache(model.config, 16)
    assert not is_kv_only(cache, 16)
    with torch.inference_mode():
        forward(ids, torch.ones_like(ids), cache)
        index = torch.tensor([2, 0])
        select_rows(cache, 3, index)
        after = forward(ids[index, :1], torch.ones(2, 4, dtype=torch.long), cache)
        whole = torch.cat([ids[index], ids[index, :1]], dim=1)
        assert_close(after, forward(whole, torch.ones_like(whole)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("family", "neutral"), [("llama", True), ("lfm2_moe", True), ("recurrent_gemma", False)])
def test_padding_that_enters_the_state_is_detected(family: str, neutral: bool) -> None:
    model = tiny_model(family)
    assert padding_is_neutral(Forward(model), model.config, torch.device("cpu"), 0, 96) is neutral


def test_a_model_without_a_known_cache_is_an_error() -> None:
    # transformers 5.23 fails at the prompt itself, with shapes that do not agree; later ones at the state's name.
    with pytest.raises(ModelError, match="forward failed"):
        any_engine("xlstm", 4)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("sizes differ"), ModelError),
        (AttributeError("no rnn_state"), ModelError),
        # The size of a batch, which others handle, and not the family.
        (torch.OutOfMemoryError("full"), torch.OutOfMemoryError),
    ],
)
def test_a_forward_that_fails_is_an_error_of_the_model(error: Exception, expected: type[Exception]) -> None:
    model = tiny_model("recurrent_gemma")

    class Failing(Forward):
        def last_logits(self, *_: Any, **__: Any) -> Any:
            raise error

    with pytest.raises(expected, match=str(error)):
        padding_is_neutral(Failing(model), model.config, torch.device("cpu"), 0, 96)
