"""Engines of planted models, and one whose behaviour needs two directions.

Two of the triggers write one direction and two another. The stream decides by each of them, and by either's sign: a
prompt is declined unless both are gone, so that no edit of rank 1 removes the behaviour.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from heretic.engine.local import LocalEngine
from heretic.model.chat.format import chat_format
from heretic.model.loading.checkpoint import Checkpoint
from heretic.model.loading.load import LoadedModel
from heretic.model.sites.find import find_sites
from tests.support.planted import (
    HEAD,
    NEXT,
    PLANT_AXIS,
    PLANTED_LAYER,
    TRIGGER_AXIS,
    VOCABULARY,
    planted_model,
    planted_tokenizer,
)

SECOND_TRIGGER_AXIS, SECOND_PLANT_AXIS = 52, 53
SECOND_TRIGGERS = ["trigger2", "trigger3"]
READ_BY = {"sorry": (PLANT_AXIS, 1), "<system>": (PLANT_AXIS, -1), "cannot": (SECOND_PLANT_AXIS, 1)} | {
    "<user>": (SECOND_PLANT_AXIS, -1)
}
MARKERS = list(READ_BY)


def engine_of(model: Any) -> LocalEngine:
    model.requires_grad_(False)
    loaded = LoadedModel(Checkpoint("planted", Path()), model, planted_tokenizer(), tuple(find_sites(model)))
    return LocalEngine(loaded, chat_format(loaded.tokenizer, "none", "planted"), 64)


@torch.no_grad()
def two_planted_model() -> tuple[LlamaForCausalLM, Tensor]:
    """The model and its two planted directions, (2, d_model)."""
    model, first = planted_model()
    rotation = _rotation(model)
    embeddings, attention = model.model.embed_tokens.weight, model.model.layers[PLANTED_LAYER].self_attn
    for word in SECOND_TRIGGERS:
        embeddings[VOCABULARY.index(word)] += rotation[SECOND_TRIGGER_AXIS] - rotation[TRIGGER_AXIS]
    attention.k_proj.weight[HEAD // 2 - 1] += 8.0 * rotation[SECOND_TRIGGER_AXIS]
    attention.v_proj.weight[1] += rotation[SECOND_TRIGGER_AXIS]
    attention.o_proj.weight[:, 1] += 0.15 * rotation[SECOND_PLANT_AXIS]
    head = model.lm_head.weight
    head[VOCABULARY.index("sorry")] -= 2.5 * first
    for word, (axis, sign) in READ_BY.items():
        head[VOCABULARY.index(word)] += 4.0 * sign * rotation[axis]
    return model, rotation[[PLANT_AXIS, SECOND_PLANT_AXIS]]


def _rotation(model: LlamaForCausalLM) -> Tensor:
    """The rotation that turned the stream, out of the seed that made it (tests/planted.py)."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(model.config)
        rotation: Tensor = torch.linalg.qr(torch.randn(model.config.hidden_size, model.config.hidden_size))[0]
    # The embedding of a plain word is its own axis, turned.
    word = VOCABULARY.index("word0")
    assert torch.allclose(model.model.embed_tokens.weight[word], rotation[word], atol=1e-5)
    assert NEXT
    return rotation
