"""Quantised models load, run under hooks without being dequantised, and their weights are what they compute with."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from families import tiny
from heretic.config import ModelSettings
from heretic.errors import ModelError
from heretic.model.checkpoint import Checkpoint
from heretic.model.hooks import edited_model
from heretic.model.loading import load_decoder
from heretic.model.quantization import check_quantization, dense_weight, is_packed, stored_quantization
from heretic.model.sites import find_sites
from quantised import quantise

# Those that run on a CPU. GPTQ and AWQ need gptqmodel, which needs a newer torch than this project's tests run with;
# MXFP4 stores fused experts alone (gpt-oss). For those the errors are tested, below.
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
def test_a_quantised_model_loads_and_its_weights_are_what_it_multiplies_by(
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
def test_hooks_edit_what_packed_weights_write(method: str, plain: Path, tmp_path: Path) -> None:
    from heretic.ablation.edit import SiteEdit

    model = load(quantised(plain, tmp_path / "q", method))
    # On a CPU, bitsandbytes lays scales out anew in its forwards; the codes stay.
    before = {name: tensor.clone() for name, tensor in model.state_dict().items() if name.endswith(".weight")}
    v = torch.nn.functional.normalize(torch.randn(64, 1, generator=torch.Generator().manual_seed(6)), dim=0)
    edit = {site.module: SiteEdit(v, v, None) for site in find_sites(model)}
    written: list[torch.Tensor] = []
    last = list(edit)[-1]
    with edited_model(model, [edit]):
        handle = model.get_submodule(last).register_forward_hook(lambda _, __, output: written.append(output))
        model(input_ids=torch.arange(3, 9)[None])
        handle.remove()
    assert (written[0].float() @ v).norm() < 1e-5 * written[0].norm()
    after = model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_a_bias_is_no_part_of_the_weight() -> None:
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


def with_config(directory: Path, **quantization: Any) -> Checkpoint:
    (directory / "config.json").write_text(json.dumps({"model_type": "llama", "quantization_config": quantization}))
    return Checkpoint("the/model", directory)


@pytest.mark.parametrize(("method", "package"), [("gptq", "gptqmodel"), ("awq", "gptqmodel")])
def test_a_missing_package_is_named(method: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=rf"quantised \({method}\).*pip install .*{package}"):
        check_quantization(with_config(tmp_path, quant_method=method), SETTINGS)


def test_what_is_quantised_is_not_quantised_again(tmp_path: Path) -> None:
    settings = ModelSettings(quantization="bnb_4bit")
    checkpoint = with_config(tmp_path, quant_method="fp8")
    with pytest.raises(ModelError, match=r"quantised already \(fp8\)"):
        check_quantization(checkpoint, settings)


def test_the_method_as_configurations_have_it(tmp_path: Path) -> None:
    assert stored_quantization(with_config(tmp_path, load_in_4bit=True)) == "bitsandbytes"
    assert stored_quantization(with_config(tmp_path, quant_method="mxfp4")) == "mxfp4"
    (tmp_path / "config.json").write_text('{"text_config": {"quantization_config": {"quant_method": "awq"}}}')
    assert stored_quantization(Checkpoint("m", tmp_path)) == "awq"
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert stored_quantization(Checkpoint("m", tmp_path)) is None
    (tmp_path / "config.json").write_text("[]")
    assert stored_quantization(Checkpoint("m", tmp_path)) is None
    assert stored_quantization(Checkpoint("m", tmp_path, "m.gguf")) is None
