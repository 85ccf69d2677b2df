"""Every kind of checkpoint reads alike, and damage is named."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from heretic.errors import ExportError
from heretic.export.companions import companions
from heretic.export.readers.base import open_checkpoint
from tests.support.tiny_checkpoints import bytes_of, saved


def sharded_bin(directory: Path, state: dict[str, torch.Tensor]) -> None:
    directory.mkdir()
    keys = list(state)
    files = {"pytorch_model-00001-of-00002.bin": keys[:5], "pytorch_model-00002-of-00002.bin": keys[5:]}
    for name, part in files.items():
        torch.save({key: state[key] for key in part}, directory / name)
    weight_map = {key: name for name, part in files.items() for key in part}
    (directory / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


@pytest.mark.parametrize("kind", ["one file", "shards", "bin", "bin shards", "old bin"])
def test_every_tensor_reads_as_the_model_has_it(kind: str, tmp_path: Path) -> None:
    state = saved("llama", tmp_path / "one file", torch.bfloat16).state_dict()
    saved("llama", tmp_path / "shards", torch.bfloat16, shard="20KB")
    sharded_bin(tmp_path / "bin shards", state)
    for name, zipped in (("bin", True), ("old bin", False)):
        (tmp_path / name).mkdir()
        torch.save(state, tmp_path / name / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    reader = open_checkpoint(tmp_path / kind)
    infos = reader.tensors()
    assert {info.key for info in infos} == set(state)
    for info in infos:
        tensor = reader.read(info.key)
        assert (info.dtype, info.shape) == (tensor.dtype, tuple(tensor.shape))
        assert bytes_of(tensor) == bytes_of(state[info.key])
        assert info.nbytes == tensor.nbytes


def test_shards_are_several(tmp_path: Path) -> None:
    saved("llama", tmp_path / "base", shard="20KB")
    assert len(list((tmp_path / "base").glob("*.safetensors"))) > 2


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    saved("llama", tmp_path, shard="20KB")
    lost = sorted(tmp_path.glob("*.safetensors"))[1]
    lost.unlink()
    with pytest.raises(ExportError, match=f"not in that directory.*{lost.name}"):
        open_checkpoint(tmp_path)


def test_a_shard_of_another_checkpoint_is_noticed(tmp_path: Path) -> None:
    saved("llama", tmp_path, shard="20KB")
    save_file({"other": torch.ones(2)}, sorted(tmp_path.glob("*.safetensors"))[1])
    with pytest.raises(ExportError, match="not of one checkpoint"):
        open_checkpoint(tmp_path)


def test_a_key_in_two_shards_is_refused(tmp_path: Path) -> None:
    index = {"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    save_file({"a": torch.ones(2)}, tmp_path / "1.safetensors")
    save_file({"b": torch.ones(2), "a": torch.zeros(2)}, tmp_path / "2.safetensors")
    with pytest.raises(ExportError, match="both"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_truncated_file_is_named(name: str, tmp_path: Path) -> None:
    model = saved("llama", tmp_path / "base")
    (tmp_path / "base/model.safetensors").rename(tmp_path / "model.safetensors")
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "cut").mkdir()
    content = (tmp_path / name).read_bytes()
    (tmp_path / "cut" / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ExportError, match=f"{name}.*download it again"):
        open_checkpoint(tmp_path / "cut")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": {}}', '{"weight_map": {"a": "../b.safetensors"}}'])
def test_a_damaged_index_is_named(text: str, tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "b.safetensors")
    (tmp_path / "base").mkdir()
    (tmp_path / "base/model.safetensors.index.json").write_text(text)
    with pytest.raises(ExportError, match=r"index\.json"):
        open_checkpoint(tmp_path / "base")


def test_a_pickle_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.ones(2)}}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ExportError, match="dictionary of tensors"):
        open_checkpoint(tmp_path)
    torch.save({"a": Path("x")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ExportError, match="more than tensors"):
        open_checkpoint(tmp_path)


def test_no_weights_tells_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="holds neither"):
        open_checkpoint(tmp_path)
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    with pytest.raises(ExportError, match=r"tiny\.gguf"):
        open_checkpoint(tmp_path)


def test_companions_are_all_but_weights_and_cards(tmp_path: Path) -> None:
    wanted = [
        *("LICENSE", "chat_template.jinja", "generation_config.json", "merges.txt", "modeling_custom.py"),
        *("preprocessor_config.json", "tokenizer.json", "tokenizer.model", "additional_chat_templates/rag.jinja"),
        *("custom_generate/generate.py", "config.json"),
    ]
    unwanted = [
        *("model.safetensors", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "README.md"),
        *("model.safetensors.index.fp16.json", "pytorch_model.bin", "pytorch_model.bin.index.json", "m.gguf"),
        *(".gitattributes", ".cache/code.py", "original/consolidated.00.pth", "original/params.json"),
        *("training_args.bin", "adapter_config.json", "onnx/config.json"),
    ]
    for name in wanted + unwanted:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in companions(tmp_path)]
    assert sorted(found) == sorted(wanted)
    assert found[-1] == "config.json"
