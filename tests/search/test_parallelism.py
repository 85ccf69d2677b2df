"""The memory that processes need for a model's cache."""

from pathlib import Path

import pytest
from tiny_models import tiny_model

from heretic.engine.local import LocalEngine
from heretic.engine.measured_plan import bytes_a_row
from heretic.model.chat.format import chat_format
from heretic.model.loading.checkpoint import Checkpoint
from heretic.model.loading.load import LoadedModel
from heretic.model.sites.find import find_sites
from tests.support.planted import planted_tokenizer


def engine(family: str) -> LocalEngine:
    model, tokenizer = tiny_model(family), planted_tokenizer()
    loaded = LoadedModel(Checkpoint("tiny", Path()), model, tokenizer, tuple(find_sites(model)))
    return LocalEngine(loaded, chat_format(tokenizer, None, "tiny"), 4)


@pytest.mark.parametrize("family", ["gemma4_text", "mamba", "mamba2", "falcon_mamba", "llama"])
def test_the_cache_of_any_family_is_measured(family: str) -> None:
    """Models without heads, or with heads of several sizes, have no single head size to compute it from."""
    assert 0 < bytes_a_row(engine(family), 12) < 10_000_000
