"""Sizes of models, from headers, names and what the hub says."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file

from heretic.model.loading.size import model_size
from tests.support.gguf_files import write_gguf


def test_parameters_are_counted_from_headers(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3, 4), "b": torch.zeros(5)}, tmp_path / "one.safetensors")
    save_file({"c": torch.zeros(2, 2)}, tmp_path / "two.safetensors")
    (tmp_path / "old.bin").write_bytes(b"x" * 1000)
    size = model_size(str(tmp_path))
    assert size is not None and (size.parameters, size.exact, size.missing) == (21, True, 0)
    assert size.stored == sum(each.stat().st_size for each in tmp_path.glob("*.safetensors"))


@pytest.mark.parametrize(
    ("name", "bits"),
    [("a.Q4_K_M.gguf", 4.5), ("a-IQ3_S.gguf", 3.5), ("a.BF16.gguf", 16), ("a-q8_0.gguf", 8.5), ("a.Q4_1.gguf", 5.0)],
)
def test_parameters_of_a_gguf_file_follow_from_its_type(tmp_path: Path, name: str, bits: float) -> None:
    (tmp_path / name).write_bytes(b"x" * 9000)
    size = model_size(str(tmp_path / name))
    assert size is not None and (size.parameters, size.exact) == (int(72000 / bits), False)


def test_a_damaged_file_is_judged_by_its_size(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x" * 2000)
    size = model_size(str(tmp_path))
    assert size is not None and (size.parameters, size.exact) == (1000, False)


def test_a_quantised_checkpoint_names_its_method(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(300, dtype=torch.uint8)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"quantization_config": {"quant_method": "gptq"}}')
    size = model_size(str(tmp_path))
    assert size is not None and size.quantized == "gptq" and not size.exact


@dataclass
class Sibling:
    rfilename: str
    size: int


@dataclass
class Counted:
    total: int


@dataclass
class Info:
    siblings: list[Sibling]
    safetensors: Counted | None = None
    config: dict[str, Any] | None = None
    sha: str = "0" * 40


def test_the_hub_is_asked_for_what_would_be_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    siblings = [Sibling("config.json", 1), Sibling("m.safetensors", 800), Sibling("m.bin", 800), Sibling("q.gguf", 99)]
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: Info(siblings, Counted(400)))
    size = model_size("owner/name")
    assert size is not None and (size.parameters, size.stored, size.missing, size.exact) == (400, 800, 801, True)
    single = model_size("owner/name/q.gguf")
    assert single is not None and (single.stored, single.missing) == (99, 99)
    siblings += [Sibling(f"q-0000{number}-of-00002.gguf", 50 + number) for number in (1, 2)]
    split = model_size("owner/name/q-00002-of-00002.gguf")
    assert split is not None and (split.stored, split.missing) == (103, 103)


def test_nothing_is_said_where_there_is_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert model_size(str(tmp_path)) is None
    assert model_size("owner/name") is None


@pytest.mark.parametrize("parts", [1, 2])
def test_parameters_of_a_gguf_file_are_counted_whatever_its_name(tmp_path: Path, parts: int) -> None:
    write_gguf(tmp_path / "model.gguf", {}, parts=parts)
    files = sorted(tmp_path.iterdir())
    counted = sum(int(each.n_elements) for file in files for each in gguf.GGUFReader(file).tensors)
    for name in (files[-1], tmp_path):
        size = model_size(str(name))
        assert size is not None and (size.parameters, size.exact) == (counted, True)
        assert (len(files), size.stored) == (parts, sum(each.stat().st_size for each in files))
