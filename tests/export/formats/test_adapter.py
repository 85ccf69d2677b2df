"""The adapter on the base model is the merged model, in every row normalisation."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from tiny_models import tiny_model
from torch import Tensor
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from heretic.ablation.edit import SiteEdit
from heretic.ablation.methods.kernel.parameters import KernelParameters
from heretic.ablation.methods.tensors import StudyTensors
from heretic.ablation.parameters import WeightKernel
from heretic.ablation.sites import FusedExpertsSite, Site
from heretic.config import ModelSettings
from heretic.errors import ExportError
from heretic.export.edits import edit_from
from heretic.export.formats.adapter import Adapter, adapted, write_adapter
from heretic.export.formats.merge import Merge, merge
from heretic.export.readers.base import open_checkpoint
from heretic.model.loading.checkpoint import find_checkpoint
from heretic.model.loading.load import load_model
from tests.support.families import SMALL, tiny
from tests.support.tiny_checkpoints import MODES, SITES, candidate, directions, logits, saved
from tests.support.tiny_tokenizers import byte_level

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


@pytest.mark.parametrize("mode", MODES)
def test_rows_of_zeros_stay_so(mode: str, tmp_path: Path) -> None:
    saved("llama", tmp_path / "base")
    file = tmp_path / "base/model.safetensors"
    content = {key: tensor.clone() for key, tensor in load_file(file).items()}
    content["model.layers.2.mlp.down_proj.weight"][5:8] = 0
    save_file(content, file, {"format": "pt"})
    reader = open_checkpoint(tmp_path / "base")
    Adapter().check_sites(reader, SITES["llama"], mode)
    adapt(tmp_path / "base", tmp_path / "adapter", "llama", mode)
    merge(reader, tmp_path / "merged", SITES["llama"], edit_from(candidate(), StudyTensors(directions(), {}), mode))
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    adapted = PeftModel.from_pretrained(base, str(tmp_path / "adapter"))
    expected = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged"))
    assert_close(logits(adapted), expected, rtol=1e-4, atol=1e-4)
    assert_close(logits(adapted.merge_and_unload()), expected, rtol=1e-4, atol=1e-4)


FUSED = {
    "qwen3_moe": dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24, decoder_sparse_step=1),
    "mixtral": dict(num_local_experts=4, num_experts_per_tok=2, intermediate_size=24),
    "gpt_oss": dict(num_local_experts=4, num_experts_per_tok=2, intermediate_size=24),
}


@pytest.mark.parametrize("mode", ["none", "pre"])
@pytest.mark.parametrize("family", FUSED)
def test_fused_experts_have_an_adapter(family: str, mode: str, tmp_path: Path) -> None:
    changes = dict(num_key_value_heads=2, head_dim=8) | FUSED[family]
    model = tiny(family, seed=0, **SMALL | changes)
    for parameter in model.parameters():
        if parameter.dim() == 3:
            torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(1))
    model.save_pretrained(tmp_path / "base")
    byte_level().save_pretrained(tmp_path / "base")
    decoder = load_model(find_checkpoint(str(tmp_path / "base")), ModelSettings(dtypes=["float32"]), print)
    assert any(isinstance(site, FusedExpertsSite) for site in decoder.sites)
    kernel = WeightKernel(max_weight=1.0, max_weight_position=2.0, min_weight=1.0, min_weight_distance=2)
    kernels = {site.component: kernel for site in decoder.sites}
    parameters = KernelParameters(direction_scope="per layer", direction_index=1.0, kernels=kernels)
    edit_of = edit_from(parameters, StudyTensors(directions(), {}), mode)
    reader = open_checkpoint(tmp_path / "base")
    Adapter().check_sites(reader, decoder.sites, mode)
    write_adapter(reader, tmp_path / "adapter", decoder.sites, edit_of, "base")
    merge(reader, tmp_path / "merged", decoder.sites, edit_of)
    expected = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged"))
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    assert (logits(base) - expected).abs().max() > 0.01
    adapted = PeftModel.from_pretrained(base, str(tmp_path / "adapter"))
    assert_close(logits(adapted), expected, rtol=1e-3, atol=1e-3)
    assert_close(logits(adapted.merge_and_unload()), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("family", ["mistral3", "qwen3_vl"])
def test_a_text_decoder_inside_a_multimodal_model_has_an_adapter(family: str, tmp_path: Path) -> None:
    tiny_model(family).save_pretrained(tmp_path / "base")
    byte_level().save_pretrained(tmp_path / "base")
    settings = ModelSettings(dtypes=["float32"])
    decoder = load_model(find_checkpoint(str(tmp_path / "base")), settings, print)
    generator = torch.Generator().manual_seed(3)
    edits = {}
    for site in decoder.sites:
        width = decoder.model.get_submodule(site.module).weight.shape[0]
        edits[site.module] = SiteEdit(*(torch.randn(2, width, 1, generator=generator) * 0.2))
    reader = open_checkpoint(tmp_path / "base")
    write_adapter(reader, tmp_path / "adapter", decoder.sites, lambda site, _: edits[site.module], "base")
    merge(reader, tmp_path / "merged", decoder.sites, lambda site, _: edits[site.module])
    tokens = torch.arange(5, 25)[None]
    with torch.inference_mode():
        before = decoder.model(tokens).logits
        merged = load_model(find_checkpoint(str(tmp_path / "merged")), settings, print)
        expected = merged.model(tokens).logits
        found = PeftModel.from_pretrained(decoder.model, str(tmp_path / "adapter"))(tokens).logits
    assert (before - expected).abs().max() > 1e-3 * before.abs().max()
    assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(before.abs().max()))


def test_rescaled_rows_of_fused_experts_are_refused_from_the_sites_alone() -> None:
    fused = FusedExpertsSite(0, "mlp.experts.down_proj", "mlp.experts", "mlp.experts.down", n_experts=4, block="mlp")
    Adapter().check_layout([*SITES["llama"], fused], "pre")
    with pytest.raises(ExportError, match="row_normalization pre"):
        Adapter().check_layout([*SITES["llama"], fused], "full")


def test_a_checkpoint_without_a_sites_weight_is_refused_before_the_search(tmp_path: Path) -> None:
    saved("llama", tmp_path / "base")
    other = replace(SITES["llama"][0], key="model.layers.0.mixer.out_proj.weight")
    for form in (Merge(), Adapter()):
        with pytest.raises(ExportError, match="holds no weight"):
            form.check_sites(open_checkpoint(tmp_path / "base"), [other], "pre")


def test_no_warning_of_a_library_is_shown_when_an_adapter_is_loaded(tmp_path: Path) -> None:
    saved("llama", tmp_path / "base")
    adapt(tmp_path / "base", tmp_path / "adapter", "llama", "pre")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        assert adapted(model, tmp_path / "adapter") is model
    assert shown == []


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
