"""The adapter on the base model is the merged model, in every row normalisation."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from heretic.ablation.edit import SiteEdit
from heretic.ablation.methods.tensors import StudyTensors
from heretic.ablation.sites import FusedExpertsSite, Site
from heretic.errors import ExportError
from heretic.export.edits import edit_from
from heretic.export.formats.adapter import Adapter, write_adapter
from heretic.export.formats.merge import Merge, merge
from heretic.export.readers.base import open_checkpoint
from tests.support.tiny_checkpoints import MODES, SITES, candidate, directions, logits, saved

# PEFT asks models for an attribute that transformers has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


def adapt(base: Path, output: Path, family: str, mode: str) -> None:
    edit_of = edit_from(candidate(), StudyTensors(directions(), {}), mode)
    write_adapter(open_checkpoint(base), output, SITES[family], edit_of, "someone/base", "abc123")


@pytest.mark.parametrize("family", SITES)
@pytest.mark.parametrize("mode", MODES)
def test_the_adapted_model_answers_as_the_merged_one(mode: str, family: str, tmp_path: Path) -> None:
    saved(family, tmp_path / "base")
    adapt(tmp_path / "base", tmp_path / "adapter", family, mode)
    edit_of = edit_from(candidate(), StudyTensors(directions(), {}), mode)
    merge(open_checkpoint(tmp_path / "base"), tmp_path / "merged", SITES[family], edit_of)
    expected = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged"))
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    assert (logits(base) - expected).abs().max() > 0.1
    adapted = PeftModel.from_pretrained(base, str(tmp_path / "adapter"))
    assert_close(logits(adapted), expected, rtol=1e-4, atol=1e-4)
    assert_close(logits(adapted.merge_and_unload()), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", SITES)
@pytest.mark.parametrize("mode", MODES)
def test_the_configuration_says_what_peft_needs(mode: str, family: str, tmp_path: Path) -> None:
    saved(family, tmp_path / "base")
    adapt(tmp_path / "base", tmp_path / "adapter", family, mode)
    assert sorted(p.name for p in (tmp_path / "adapter").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    config = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    expected = {
        "base_model_name_or_path": "someone/base",
        "revision": "abc123",
        "r": 1,
        "lora_alpha": 1,
        "use_dora": mode == "full",
        "fan_in_fan_out": family == "gpt2",
        "inference_mode": True,
        "task_type": "CAUSAL_LM",
        "target_modules": [site.module for site in SITES[family] if site.layer > 0],
    }
    assert {key: config[key] for key in expected} == expected


def test_the_magnitude_of_full_is_the_original_norm(tmp_path: Path) -> None:
    model = saved("llama", tmp_path / "base")
    adapt(tmp_path / "base", tmp_path / "adapter", "llama", "full")
    state = load_file(tmp_path / "adapter/adapter_model.safetensors")
    module = "model.layers.2.mlp.down_proj"
    norms = model.get_parameter(f"{module}.weight").norm(dim=1)
    assert_close(state[f"base_model.model.{module}.lora_magnitude_vector"], norms)


def test_edits_of_different_rank_share_one_adapter(tmp_path: Path) -> None:
    saved("llama", tmp_path / "base")
    generator = torch.Generator().manual_seed(3)
    edits = {
        site.module: SiteEdit(*(torch.randn(2, 32, rank, generator=generator) * 0.2))
        for site, rank in zip(SITES["llama"][:2], (1, 3), strict=True)
    }

    def edit_of(site: Site, weight: Tensor) -> SiteEdit | None:
        return edits.get(site.module)

    write_adapter(open_checkpoint(tmp_path / "base"), tmp_path / "adapter", SITES["llama"], edit_of, "base")
    merge(open_checkpoint(tmp_path / "base"), tmp_path / "merged", SITES["llama"], edit_of)
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    adapted = PeftModel.from_pretrained(base, str(tmp_path / "adapter"))
    expected = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged"))
    assert_close(logits(adapted), expected, rtol=1e-4, atol=1e-4)


def test_a_zero_row_is_refused_under_full_only(tmp_path: Path) -> None:
    saved("llama", tmp_path / "base")
    file = tmp_path / "base/model.safetensors"
    content = {key: tensor.clone() for key, tensor in load_file(file).items()}
    content["model.layers.2.mlp.down_proj.weight"][5] = 0
    save_file(content, file, {"format": "pt"})
    adapt(tmp_path / "base", tmp_path / "pre", "llama", "pre")
    with pytest.raises(ExportError, match="merged model"):
        adapt(tmp_path / "base", tmp_path / "full", "llama", "full")
    assert not (tmp_path / "full").exists()
    reader = open_checkpoint(tmp_path / "base")
    Adapter().check_sites(reader, SITES["llama"], "pre")
    with pytest.raises(ExportError, match=r"1 rows of .*down_proj\.weight are zero"):
        Adapter().check_sites(reader, SITES["llama"], "full")


def test_fused_experts_are_refused_from_the_sites_alone(tmp_path: Path) -> None:
    fused = FusedExpertsSite(0, "mlp.experts.down_proj", "mlp.experts", "mlp.experts.down", n_experts=4, block="mlp")
    with pytest.raises(ExportError, match="4 experts as one parameter"):
        Adapter().check_layout([*SITES["llama"], fused])


def test_a_checkpoint_without_a_sites_weight_is_refused_before_the_search(tmp_path: Path) -> None:
    saved("llama", tmp_path / "base")
    other = replace(SITES["llama"][0], key="model.layers.0.mixer.out_proj.weight")
    for form in (Merge(), Adapter()):
        with pytest.raises(ExportError, match="holds no weight"):
            form.check_sites(open_checkpoint(tmp_path / "base"), [other], "pre")


def test_no_edit_makes_no_adapter(tmp_path: Path) -> None:
    saved("llama", tmp_path / "base")
    reader = open_checkpoint(tmp_path / "base")
    with pytest.raises(ExportError, match="edits no weight"):
        write_adapter(reader, tmp_path / "adapter", SITES["llama"], lambda site, weight: None, "base")
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_the_same_candidate_gives_the_same_bytes(tmp_path: Path) -> None:
    saved("llama", tmp_path / "base")
    for name in ("one", "two"):
        adapt(tmp_path / "base", tmp_path / name, "llama", "full")
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
