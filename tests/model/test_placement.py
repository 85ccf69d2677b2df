"""A model that does not fit the memory is offloaded to disk, with the results that it has in memory."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from heretic.ablation.directions import Directions
from heretic.ablation.edit import SiteEdit
from heretic.config import ModelSettings
from heretic.engine.local import LocalEngine
from heretic.engine.protocol import no_progress
from heretic.model.chat.format import chat_format
from heretic.model.loading.checkpoint import Checkpoint
from heretic.model.loading.load import LoadedModel, load_decoder
from heretic.model.placement import bias_of, device_of, input_device, is_offloaded, placement_notes, present
from heretic.model.sites.find import find_sites
from heretic.prompts.prompt import Prompt
from tests.support.families import tiny
from tests.support.planted import planted_tokenizer

PROMPTS = [Prompt(text) for text in ("word1 word2", "word3", "word4 word5 word6")]
LAST = "model.layers.2"


def loaded(directory: Path, **limits: Any) -> LoadedModel:
    checkpoint = Checkpoint("tiny", directory)
    model = load_decoder(checkpoint, ModelSettings(dtypes=["float32"], **limits), lambda text: None)
    return LoadedModel(checkpoint, model, planted_tokenizer(), tuple(find_sites(model)))


@pytest.fixture(params=["llama", "phi"])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[LoadedModel, LoadedModel]:
    """The same model in memory and with its last layers on disk; phi's linear modules have biases."""
    tiny(request.param).save_pretrained(tmp_path / "model")
    size = (tmp_path / "model/model.safetensors").stat().st_size
    return loaded(tmp_path / "model"), loaded(tmp_path / "model", max_memory={"cpu": int(0.6 * size)})


def test_layers_that_do_not_fit_are_on_disk(both: tuple[LoadedModel, LoadedModel]) -> None:
    plain, offloaded = both
    module = offloaded.model.get_submodule(offloaded.sites[-1].module)
    assert is_offloaded(module)
    assert not is_offloaded(plain.model.get_submodule(plain.sites[-1].module))
    assert offloaded.device == input_device(offloaded.model) == device_of(module) == torch.device("cpu")
    with present(module):
        assert torch.equal(module.weight, plain.model.get_submodule(plain.sites[-1].module).weight)
    assert is_offloaded(module)
    bias, expected = bias_of(module), bias_of(plain.model.get_submodule(plain.sites[-1].module))
    assert (bias is None) == (expected is None)
    assert bias is None or torch.equal(bias, expected)


def test_results_are_those_in_memory(both: tuple[LoadedModel, LoadedModel]) -> None:
    plain, offloaded = (LocalEngine(each, chat_format(each.tokenizer, None, "tiny"), 2) for each in both)
    assert offloaded.sites == plain.sites
    directions = Directions(torch.nn.functional.normalize(torch.randn(4, 32), dim=-1))
    for module, stats in plain.weight_stats(directions, no_progress).items():
        assert_close(offloaded.weight_stats(directions, no_progress)[module].gram_directions, stats.gram_directions)
    v = directions.vectors[1][:, None]
    edit = {site.module: SiteEdit(v, v, None) for site in plain.sites}
    before = plain.first_token_log_probabilities(PROMPTS, [{}, edit], no_progress)
    after = offloaded.first_token_log_probabilities(PROMPTS, [{}, edit], no_progress)
    assert (before[0] - before[1]).abs().max() > 1e-3
    assert_close(after, before)
    texts = [
        [r.text for r in engine.generate(PROMPTS, [edit], 6, None, no_progress)[0]] for engine in (plain, offloaded)
    ]
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("devices", "words"),
    [
        (["cuda:0"], []),
        (["cuda:0", "meta"], ["copied to the device"]),
        (["cuda:1", "cuda:0", "cuda:1"], ["spread over cuda:0, cuda:1"]),
        (["xpu:0", "cpu", "meta"], ["copied to the device", "spread over cpu, xpu:0"]),
    ],
)
def test_it_is_said_what_a_placement_costs(devices: list[str], words: list[str]) -> None:
    model = SimpleNamespace(parameters=lambda: (SimpleNamespace(device=torch.device(each)) for each in devices))
    notes = placement_notes(model)
    assert len(notes) == len(words)
    assert all(word in note for word, note in zip(words, notes, strict=True))
