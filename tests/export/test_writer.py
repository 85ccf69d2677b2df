"""What is written is what was planned, as safetensors itself reads it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from heretic.errors import ExportError
from heretic.export.readers.base import open_checkpoint
from heretic.export.readers.tensors import DTYPES, TensorInfo
from heretic.export.writer import CheckpointWriter, parse_size, plan_shards
from tests.support.tiny_checkpoints import bytes_of


def info(key: str, tensor: Tensor) -> TensorInfo:
    return TensorInfo(key, tensor.dtype, tuple(tensor.shape))


def write(directory: Path, tensors: dict[str, Tensor], size: int | str = "5GB", order: int = 1) -> None:
    directory.mkdir(exist_ok=True)
    writer = CheckpointWriter(directory, [info(key, tensor) for key, tensor in tensors.items()], size)
    for key in list(tensors)[::order]:
        writer.add(key, tensors[key])
    writer.finish()


def every_kind() -> dict[str, Tensor]:
    """One tensor of each element type, odd in length, and the shapes that are easy to get wrong."""
    generator = torch.Generator().manual_seed(0)
    raw = torch.randint(0, 256, (8 * 3 * 5,), dtype=torch.uint8, generator=generator)
    # A byte that is no bool would not come back as the same byte.
    kinds = {name: dtype for name, dtype in DTYPES.items() if dtype != torch.bool}
    tensors = {name: raw[: 15 * dtype.itemsize].view(dtype).reshape(3, 5) for name, dtype in kinds.items()}
    tensors["bool"] = torch.tensor([True, False, True])
    tensors["scalar"] = torch.tensor(2.5)
    tensors["empty"] = torch.empty(0, 4)
    tensors["transposed"] = torch.arange(6.0).reshape(2, 3).mT
    return tensors


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("size", ["5GB", 100, 1])
def test_every_type_and_shape_comes_back_byte_for_byte(size: int | str, order: int, tmp_path: Path) -> None:
    tensors = every_kind()
    write(tmp_path, tensors, size, order)
    reader = open_checkpoint(tmp_path)
    assert {i.key: i for i in reader.tensors()} == {key: info(key, tensor) for key, tensor in tensors.items()}
    for key, tensor in tensors.items():
        assert bytes_of(reader.read(key)) == bytes_of(tensor)


def test_each_tensor_begins_at_a_multiple_of_its_element_size() -> None:
    kinds = [torch.int8, torch.float32, torch.bfloat16, torch.float64, torch.uint8, torch.float16]
    [shard] = plan_shards([TensorInfo(str(kind), kind, (3,)) for kind in kinds], 10**9)
    assert [shard.starts[str(kind)] % kind.itemsize for kind in kinds] == [0] * 6


def test_one_file_has_the_usual_name_and_metadata(tmp_path: Path) -> None:
    write(tmp_path, {"a": torch.ones(3)})
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_several_files_have_the_usual_names_and_an_index(tmp_path: Path) -> None:
    write(tmp_path, {"a": torch.ones(3), "b": torch.ones(3), "c": torch.ones(30)}, 24)
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    index = json.loads((tmp_path / names[2]).read_text())
    assert index == {"metadata": {"total_size": 144}, "weight_map": {"a": names[0], "b": names[0], "c": names[1]}}


def test_shards_hold_what_fits_and_a_large_tensor_stands_alone() -> None:
    tensors = [TensorInfo(str(n), torch.int8, (n,)) for n in (4, 5, 1, 50, 2)]
    assert [list(shard.starts) for shard in plan_shards(tensors, 10)] == [["4", "5", "1"], ["50"], ["2"]]


@pytest.mark.parametrize(
    ("text", "size"), [("5GB", 5 * 10**9), ("1.5 mb", 1_500_000), ("2GiB", 2**31), (7, 7), ("7", 7)]
)
def test_sizes_are_understood(text: int | str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "5 gigs", "-1", "0GB", 0])
def test_what_is_no_size_is_refused(text: int | str) -> None:
    with pytest.raises(ExportError, match="max_shard_size"):
        parse_size(text)


def test_a_forgotten_or_changed_tensor_is_our_own_mistake(tmp_path: Path) -> None:
    writer = CheckpointWriter(tmp_path, [TensorInfo("a", torch.float32, (2,)), TensorInfo("b", torch.float32, (2,))])
    with pytest.raises(AssertionError, match="not what was planned"):
        writer.add("a", torch.ones(2, dtype=torch.float64))
    with pytest.raises(AssertionError, match="never written"):
        writer.finish()


def test_too_little_space_is_noticed_before_a_byte_is_written(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="make room"):
        CheckpointWriter(tmp_path, [TensorInfo("a", torch.float32, (2**50,))])
    assert list(tmp_path.iterdir()) == []
