"""Quantised models load and run under hooks without dequantisation; dense weights are those of their products."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import GptOssConfig, GptOssForCausalLM

from heretic.config import ModelSettings
from heretic.errors import ModelError
from heretic.export.formats.merge import merge
from heretic.export.readers.dequantized import DequantizedReader
from heretic.model.hooks.edits import edited_model
from heretic.model.loading.checkpoint import Checkpoint
from heretic.model.loading.load import load_decoder
from heretic.model.loading.quantization import check_quantization, dense_weight, is_packed, stored_quantization
from heretic.model.sites.find import find_sites
from tests.support.families import tiny
from tests.support.quantised import quantise

# Those that run on a CPU. GPTQ and AWQ need gptqmodel, which needs a newer torch than this project's tests run with:
# their errors are tested, below.
METHODS = {"bnb_4bit": ("bitsandbytes", 0.15), "bnb_8bit": ("bitsandbytes", 0.02), "fp8": ("fp8", 0.05)}
METHODS |= {"compressed-tensors": ("compressed-tensors", 0.02)}
SETTINGS = ModelSettings(dtypes=["float32"])


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("plain") / "model"
    tiny("llama", hidden_size=64, intermediate_size=128, head_dim=16).save_pretrained(directory)
    return directory


def quantised(plain: Path, target: Path, method: str) -> Checkpoint:
    if importlib.util.find_spec(METHODS[method][0].replace("-", "_")) is None and method != "fp8":
        pytest.skip(f"{METHODS[method][0]} is not installed")
    quantise(plain, target, method)
    return Checkpoint(str(target), target)


def load(checkpoint: Checkpoint) -> Any:
    return load_decoder(checkpoint, SETTINGS, lambda text: None)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", METHODS)
def test_a_quantised_model_loads_and_its_dense_weights_are_those_of_its_products(
    method: str, plain: Path, tmp_path: Path
) -> None:
    checkpoint = quantised(plain, tmp_path / "q", method)
    assert stored_quantization(checkpoint) == METHODS[method][0]
    model, original = load(checkpoint), load(Checkpoint("plain", plain))
    sites = find_sites(model)
    assert [site.module for site in sites] == [site.module for site in find_sites(original)]
    for site in sites:
        module = model.get_submodule(site.module)
        assert is_packed(module) == method.startswith("bnb")
        before, weight = original.get_submodule(site.module).weight, dense_weight(module).float()
        assert weight.shape == before.shape
        assert 0 < (weight - before).norm() / before.norm() < METHODS[method][1]
        x = torch.randn(1, 5, weight.shape[1], generator=torch.Generator().manual_seed(2))
        written = module(x).float()
        # 8-bit products of bitsandbytes quantise their input too.
        assert (written - x @ weight.mT).norm() < 0.02 * written.norm()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["bnb_4bit", "bnb_8bit"])
def test_hooks_edit_the_output_of_packed_weights(method: str, plain: Path, tmp_path: Path) -> None:
    from heretic.ablation.edit import SiteEdit

    model = load(quantised(plain, tmp_path / "q", method))
    # On a CPU, bitsandbytes rearranges scales in its forward passes; the codes stay.
    before = {name: tensor.clone() for name, tensor in model.state_dict().items() if name.endswith(".weight")}
    v = torch.nn.functional.normalize(torch.randn(64, 1, generator=torch.Generator().manual_seed(6)), dim=0)
    edit = {site.module: SiteEdit(v, v, None) for site in find_sites(model)}
    written: list[torch.Tensor] = []
    last = list(edit)[-1]
    with edited_model(model, [edit], ()):
        handle = model.get_submodule(last).register_forward_hook(lambda _, __, output: written.append(output))
        model(input_ids=torch.arange(3, 9)[None])
        handle.remove()
    assert (written[0].float() @ v).norm() < 1e-5 * written[0].norm()
    after = model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_the_bias_is_not_part_of_the_dense_weight() -> None:
    class Packed(nn.Module):
        """Two matrices' sum as codes: anything that is linear will do."""

        in_features, out_features = 300, 7

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("codes", torch.randint(-8, 8, (7, 300), generator=torch.Generator().manual_seed(1)))
            self.register_buffer("scales", torch.rand(7, 1, generator=torch.Generator().manual_seed(2)))
            self.bias = nn.Parameter(torch.ones(7))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ (self.codes * self.scales).mT + self.bias

    module = Packed()
    assert is_packed(module)
    torch.testing.assert_close(dense_weight(module), module.codes * module.scales)


FP4 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]


def write_mxfp4(directory: Path) -> torch.Tensor:
    """A tiny gpt-oss as OpenAI publishes it; returns the first layer's down projections, (experts, d_in, d_model)."""
    config = GptOssConfig(
        vocab_size=96,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        num_local_experts=4,
        num_experts_per_tok=2,
        pad_token_id=0,
        eos_token_id=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GptOssForCausalLM(config)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(directory)
    generator = torch.Generator().manual_seed(1)
    tensors = load_file(directory / "model.safetensors")
    for key in [key for key in tensors if key.endswith(("experts.down_proj", "experts.gate_up_proj"))]:
        experts, d_in, d_out = tensors.pop(key).shape
        shape = (experts, d_out, d_in // 32)
        tensors[f"{key}_blocks"] = torch.randint(0, 256, (*shape, 16), generator=generator, dtype=torch.uint8)
        tensors[f"{key}_scales"] = torch.randint(121, 125, shape, generator=generator, dtype=torch.uint8)
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    stored = json.loads((directory / "config.json").read_text())
    stored["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": ["self_attn", "lm_head"]}
    (directory / "config.json").write_text(json.dumps(stored))
    return decoded(*(tensors[f"model.layers.0.mlp.experts.down_proj_{part}"] for part in ("blocks", "scales")))


def decoded(blocks: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """Two 4-bit floats a byte, the low half first; each 32 of them share a power of two."""
    values = torch.tensor([*FP4, *(-each for each in FP4)])
    halves = torch.stack([values[(blocks & 15).long()], values[(blocks >> 4).long()]], dim=-1)
    scaled = halves.flatten(-2) * torch.exp2(scales.float() - 127)[..., None]
    return scaled.flatten(-2).mT


@pytest.mark.filterwarnings("ignore")
def test_experts_in_mxfp4_are_dequantised_on_a_cpu(tmp_path: Path) -> None:
    expected = write_mxfp4(tmp_path / "q")
    checkpoint = Checkpoint("gpt-oss", tmp_path / "q")
    assert stored_quantization(checkpoint) == "mxfp4"
    model = load(checkpoint)
    assert torch.equal(model.model.layers[0].mlp.experts.down_proj.float(), expected)
    sites = find_sites(model)
    assert [(site.component, getattr(site, "n_experts", None)) for site in sites if site.layer == 0] == [
        ("attn.o_proj", None),
        ("mlp.experts.down_proj", 4),
    ]
    reader = DequantizedReader(model, tmp_path / "q")
    merge(reader, tmp_path / "out", sites, lambda site, weight: None)
    written = load(Checkpoint("written", tmp_path / "out"))
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, written.state_dict()[key]), key


def with_config(directory: Path, **quantization: Any) -> Checkpoint:
    (directory / "config.json").write_text(json.dumps({"model_type": "llama", "quantization_config": quantization}))
    return Checkpoint("the/model", directory)


@pytest.mark.parametrize(("method", "package"), [("gptq", "gptqmodel"), ("awq", "gptqmodel")])
def test_a_missing_package_is_named(method: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=rf"quantised \({method}\).*pip install .*{package}"):
        check_quantization(with_config(tmp_path, quant_method=method), SETTINGS)


def test_a_model_of_mlx_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="quantised for Apple's MLX"):
        check_quantization(with_config(tmp_path, group_size=64, bits=4), SETTINGS)


def test_a_quantised_model_is_not_quantised_again(tmp_path: Path) -> None:
    settings = ModelSettings(quantization="bnb_4bit")
    checkpoint = with_config(tmp_path, quant_method="fp8")
    with pytest.raises(ModelError, match=r"quantised already \(fp8\)"):
        check_quantization(checkpoint, settings)


def test_the_method_is_read_from_the_configuration(tmp_path: Path) -> None:
    assert stored_quantization(with_config(tmp_path, load_in_4bit=True)) == "bitsandbytes"
    assert stored_quantization(with_config(tmp_path, quant_method="mxfp4")) == "mxfp4"
    (tmp_path / "config.json").write_text('{"text_config": {"quantization_config": {"quant_method": "awq"}}}')
    assert stored_quantization(Checkpoint("m", tmp_path)) == "awq"
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert stored_quantization(Checkpoint("m", tmp_path)) is None
    (tmp_path / "config.json").write_text("[]")
    assert stored_quantization(Checkpoint("m", tmp_path)) is None
    assert stored_quantization(Checkpoint("m", tmp_path, "m.gguf")) is None
