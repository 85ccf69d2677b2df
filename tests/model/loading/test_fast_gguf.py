"""The faster reader reads the same bits."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from heretic.model.loading.fast_gguf import FastGGUFReader, fast_gguf
from tests.support.gguf_files import QUANTISED, write_gguf


def everything(reader: gguf.GGUFReader) -> list[Any]:
    """Everything that a reader holds, arrays as their type and bytes."""
    fields = [
        (name, f.offset, f.types, f.data, [(part.dtype.str, part.tobytes()) for part in f.parts], f.contents())
        for name, f in reader.fields.items()
    ]
    tensors = [
        (t.name, t.tensor_type, t.shape.tolist(), t.n_bytes, t.data_offset, t.data.dtype, t.data.tobytes())
        for t in reader.tensors
    ]
    return [*fields, *tensors, reader.data_offset, reader.alignment]


@pytest.mark.parametrize("endianess", [gguf.GGUFEndian.LITTLE, gguf.GGUFEndian.BIG])
def test_all_kinds_of_metadata(endianess: gguf.GGUFEndian, tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "all.gguf", "llama", endianess=endianess)
    writer.add_string("a.string", "söme text")
    writer.add_array("a.strings", ["one", "", "three"])
    writer.add_array("a.numbers", [3, 1, 2])
    writer.add_array("a.floats", [0.5, -1.0])
    writer.add_array("a.flags", [True, False])
    writer.add_float32("a.float", 0.25)
    writer.add_bool("a.flag", True)
    writer.add_uint64("a.large", 2**40)
    writer.add_tensor("a.weight", np.arange(64, dtype=np.float32).reshape(2, 32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert everything(FastGGUFReader(tmp_path / "all.gguf")) == everything(gguf.GGUFReader(tmp_path / "all.gguf"))


def load(directory: Path) -> tuple[Any, Any]:
    tokenizer = AutoTokenizer.from_pretrained(directory, gguf_file="tiny.gguf")
    settings = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        directory, gguf_file="tiny.gguf", quantization_config=settings, dtype=torch.float32
    )
    return tokenizer, model


def test_transformers_loads_the_same_and_reads_the_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gguf(tmp_path / "tiny.gguf", QUANTISED)
    plain_tokenizer, plain = load(tmp_path)
    opened: list[object] = []
    monkeypatch.setattr(FastGGUFReader, "__init__", counting(FastGGUFReader.__init__, opened))
    with fast_gguf(), fast_gguf():
        tokenizer, model = load(tmp_path)
    assert len(opened) == 1
    assert tokenizer.get_vocab() == plain_tokenizer.get_vocab()
    assert tokenizer.chat_template == plain_tokenizer.chat_template
    assert model.config.to_dict() == plain.config.to_dict()
    before, after = plain.state_dict(), model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def counting(method: Any, calls: list[object]) -> Any:
    def counted(self: object, *arguments: Any) -> None:
        calls.append(self)
        method(self, *arguments)

    return counted


def test_the_package_is_restored_afterwards() -> None:
    before = gguf.GGUFReader, gguf.get_tensor_name_map
    with pytest.raises(ZeroDivisionError), fast_gguf():
        assert gguf.GGUFReader is not before[0]
        _ = 1 / 0
    assert (gguf.GGUFReader, gguf.get_tensor_name_map) == before
