"""Which families decode by recorded steps, and whether these give the same responses: one line for each tiny model.

python tools/recorded_steps.py                  # every family, two minutes
python tools/recorded_steps.py qwen3 gemma2     # these
"""

import sys
import warnings
from pathlib import Path

import torch
from tiny_models import causal_families, tiny_model

from heretic.ablation.edit import ModelEdit, SiteEdit
from heretic.engine.local import LocalEngine
from heretic.engine.options import EngineOptions
from heretic.engine.protocol import no_progress
from heretic.errors import UserError
from heretic.model.chat.format import chat_format
from heretic.model.loading.checkpoint import Checkpoint
from heretic.model.loading.load import LoadedModel
from heretic.model.sites.find import find_sites
from heretic.prompts.prompt import Prompt

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.support.op_replay import OpReplay
from tests.support.planted import planted_prompts, planted_tokenizer

PROMPTS = [Prompt(text) for text in planted_prompts(7, bad=True, seed=5)]
TOKENS = 14


def candidates(loaded: LoadedModel, seed: int) -> list[ModelEdit]:
    """Two that edit every site, and the baseline."""
    draw = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(torch.randn(2, loaded.d_model, 1, generator=draw), dim=1)
    return [*({site.module: SiteEdit(v, v) for site in loaded.sites} for v in directions), {}]


def verdict(family: str) -> str:
    """The result for three sets of candidates."""
    model, tokenizer = tiny_model(family), planted_tokenizer()
    loaded = LoadedModel(Checkpoint("tiny", Path()), model, tokenizer, tuple(find_sites(model)))
    chat, said = chat_format(tokenizer, None, "tiny"), list[str]()
    plain = LocalEngine(loaded, chat, 64, EngineOptions(static_decode="off"))
    captured = LocalEngine(loaded, chat, 64, warn=said.append, capturer=OpReplay())
    if captured.graphs is None or not captured.graphs.enabled:
        return "not tried"
    for seed in range(3):
        first, second = (
            engine.generate(PROMPTS, candidates(loaded, seed), TOKENS, lambda text: "word1" in text, no_progress)
            for engine in (plain, captured)
        )
        if first != second:
            return "DIFFERENT"
    return (
        said[0]
        if said
        else "the same"
        if captured.graphs.has_graphs
        else "not tried: its cache holds more than positions"
    )


def main() -> None:
    warnings.simplefilter("ignore")
    for family in sys.argv[1:] or causal_families():
        try:
            print(f"{family}: {verdict(family)}", flush=True)
        except (UserError, ImportError, ValueError, AttributeError) as error:
            print(f"{family}: not run ({type(error).__name__})", flush=True)


if __name__ == "__main__":
    main()
