"""Engines of tiny random models, for tests of the engine."""

from pathlib import Path

import torch
from tiny_models import tiny_model

from heretic.ablation.edit import SiteEdit
from heretic.engine.local import LocalEngine
from heretic.engine.options import DEFAULT, EngineOptions
from heretic.model.chat.format import chat_format
from heretic.model.loading.checkpoint import Checkpoint
from heretic.model.loading.load import LoadedModel
from heretic.model.sites.find import find_sites
from heretic.prompts.prompt import Prompt
from tests.support.families import tiny
from tests.support.planted import planted_prompts, planted_tokenizer

PROMPTS = [Prompt(text) for text in planted_prompts(11, bad=True, seed=5)]
FAMILIES = ["llama", "gemma2", "gpt2", "opt", "falcon", "bloom"]


def engine_for(
    family: str,
    batch_size: int,
    options: EngineOptions = DEFAULT,
    n_layers: int | None = None,
    dtype: torch.dtype = torch.float32,
    system_prompt: str | None = None,
    device: str = "cpu",
) -> LocalEngine:
    tokenizer = planted_tokenizer()
    # Tied embeddings make a random model repeat its last token, which would prove little.
    layers = {} if n_layers is None else {"num_hidden_layers": n_layers}
    model = tiny(family, tie_word_embeddings=False, eos_token_id=1, **layers).to(device, dtype)
    loaded = LoadedModel(Checkpoint("tiny", Path()), model, tokenizer, tuple(find_sites(model)))
    return LocalEngine(loaded, chat_format(tokenizer, system_prompt, "tiny"), batch_size, options)


def any_engine(family: str, batch_size: int, options: EngineOptions = DEFAULT) -> LocalEngine:
    """An engine of any family that transformers supports: mixtures, hybrids and others."""
    tokenizer, model = planted_tokenizer(), tiny_model(family)
    loaded = LoadedModel(Checkpoint("tiny", Path()), model, tokenizer, tuple(find_sites(model)))
    return LocalEngine(loaded, chat_format(tokenizer, None, "tiny"), batch_size, options)


def some_edit(engine: LocalEngine, seed: int) -> dict[str, SiteEdit]:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.nn.functional.normalize(torch.randn(32, 1, generator=generator), dim=0)
    return {site.module: SiteEdit(vectors, vectors) for site in engine.sites}
