"""A GGUF file becomes another one in which only the edited tensors differ."""

from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGMLQuantizationType as Type

from heretic.ablation.edit import edit_weight
from heretic.ablation.methods.tensors import StudyTensors
from heretic.errors import ExportError
from heretic.export.edits import edit_from
from heretic.export.formats.gguf import _pack
from heretic.export.formats.gguf import write_gguf as write_edited
from heretic.export.matching import Owner
from heretic.export.readers.base import open_checkpoint
from heretic.export.readers.gguf import GGUFCheckpointReader
from tests.support.gguf_files import QUANTISED, write_gguf
from tests.support.tiny_checkpoints import LLAMA_SITES, MODES, candidate, direction_of, directions, saved

EDITED = {f"blk.{layer}.{name}.weight" for layer in (1, 2) for name in ("attn_output", "ffn_down")}


def base(directory: Path, matrices: dict[str, Type] = QUANTISED, **changes: Any) -> GGUFCheckpointReader:
    directory.mkdir()
    write_gguf(directory / "tiny.gguf", matrices, **changes)
    return opened(directory / "tiny.gguf")


def opened(path: Path) -> GGUFCheckpointReader:
    reader = open_checkpoint(path.parent, path.name)
    assert isinstance(reader, GGUFCheckpointReader)
    return reader


def header(reader: GGUFCheckpointReader) -> bytes:
    """All metadata, before the table of tensors."""
    return reader.path.read_bytes()[24 : reader.file.tensors[0].field.offset]


def test_without_an_edit_the_file_is_the_same(tmp_path: Path) -> None:
    reader = base(tmp_path / "base")
    write_edited(reader, tmp_path / "out", LLAMA_SITES, lambda site, weight: None)
    assert (tmp_path / "out/tiny-heretic.gguf").read_bytes() == (tmp_path / "base/tiny.gguf").read_bytes()


@pytest.mark.parametrize("mode", MODES)
def test_only_the_edited_tensors_differ(mode: str, tmp_path: Path) -> None:
    reader = base(tmp_path / "base")
    edit_of = edit_from(candidate(1.0), StudyTensors(directions(), {}), mode)
    counted: list[int] = []
    write_edited(reader, tmp_path / "out", LLAMA_SITES, edit_of, progress=counted.append)
    written = opened(tmp_path / "out/tiny-heretic.gguf")
    assert header(written) == header(reader)
    assert [t.name for t in written.file.tensors] == [t.name for t in reader.file.tensors]
    assert [t.tensor_type for t in written.file.tensors] == [t.tensor_type for t in reader.file.tensors]
    pairs = list(zip(reader.file.tensors, written.file.tensors, strict=True))
    assert {old.name for old, new in pairs if old.data.tobytes() != new.data.tobytes()} == EDITED
    assert sum(counted) == len(pairs)
    for site in LLAMA_SITES[2:]:
        original = reader.read_exact(site.key)
        edit = edit_of(site, original)
        assert edit is not None
        wanted = edit_weight(edit, original)
        direction = torch.nn.functional.normalize(edit.left, dim=0)
        gone = direction.mT @ (original - wanted)
        # 32 features: the sum over them can't be kept as finely as over thousands.
        assert (direction.mT @ (written.read_exact(site.key) - wanted)).norm() < 0.12 * gone.norm()


def test_floats_are_edited_exactly(tmp_path: Path) -> None:
    reader = base(tmp_path / "base", {})
    write_edited(
        reader, tmp_path / "out", LLAMA_SITES, edit_from(candidate(1.0), StudyTensors(directions(), {}), "none")
    )
    written = opened(tmp_path / "out/tiny-heretic.gguf")
    for site in LLAMA_SITES[2:]:
        assert (direction_of(site) @ reader.read_exact(site.key)).norm() > 0.5
        assert (direction_of(site) @ written.read_exact(site.key)).norm() < 1e-5


@pytest.mark.parametrize("wanted", ["Q8_0", "F16"])
def test_a_finer_type_for_the_edited_tensors(wanted: str, tmp_path: Path) -> None:
    reader = base(tmp_path / "base")
    edit_of = edit_from(candidate(1.0), StudyTensors(directions(), {}), "none")
    write_edited(reader, tmp_path / "out", LLAMA_SITES, edit_of, wanted)
    written = opened(tmp_path / "out/tiny-heretic.gguf")
    types = {tensor.name: tensor.tensor_type for tensor in written.file.tensors}
    assert types["blk.1.ffn_down.weight"] == Type[wanted]
    # It was a float.
    assert types["blk.1.attn_output.weight"] == Type.F32
    assert types["blk.0.ffn_down.weight"] == Type.Q4_0


def test_a_type_that_can_only_be_read_is_said_and_written_in_8_bits(tmp_path: Path) -> None:
    reader = base(tmp_path / "base", QUANTISED | {"ffn_down": Type.Q4_K}, feed_forward=256)
    reports: list[dict[tuple[str, str], int]] = []
    edit_of = edit_from(candidate(1.0), StudyTensors(directions(), {}), "none")
    write_edited(reader, tmp_path / "out", LLAMA_SITES, edit_of, check=lambda _, retyped: reports.append(dict(retyped)))
    written = opened(tmp_path / "out/tiny-heretic.gguf")
    assert reports == [{("Q4_K", "Q8_0"): 2}]
    new = {tensor.name: tensor for tensor in written.file.tensors}
    assert new["blk.1.ffn_down.weight"].tensor_type == Type.Q8_0
    site = LLAMA_SITES[3]
    assert (direction_of(site) @ written.read_exact(site.key)).norm() < 0.03 * reader.read_exact(site.key).norm()
    # All that follows lies elsewhere now, and is the same.
    for old in reader.file.tensors:
        if old.name not in EDITED:
            assert old.data.tobytes() == new[old.name].data.tobytes()


def test_loading_that_rearranges_a_tensor_is_undone(tmp_path: Path) -> None:
    reader = base(tmp_path / "base")
    key = "model.layers.0.self_attn.k_proj.weight"
    order, stored = reader.order(key), reader.read_exact(key)
    assert order is not None
    assert reader.order(LLAMA_SITES[0].key) is None
    [source] = reader.sources(key)
    shape = tuple(reversed(source.shape.tolist()))
    pack = _pack(order, Owner(LLAMA_SITES[0], False), source.tensor_type, shape, tuple(stored.shape))
    assert pack.blocks(stored).tobytes() == source.data.tobytes()
    assert torch.equal(pack.weight(source.data), stored)


def test_another_checkpoint_has_no_gguf_file_to_go_by(tmp_path: Path) -> None:
    saved("llama", tmp_path / "base")
    with pytest.raises(ExportError, match="convert_hf_to_gguf"):
        write_edited(open_checkpoint(tmp_path / "base"), tmp_path / "out", LLAMA_SITES, lambda site, weight: None)
    assert not (tmp_path / "out").exists()


def test_a_failed_check_leaves_nothing(tmp_path: Path) -> None:
    reader = base(tmp_path / "base")

    def refuse(*_: object) -> None:
        raise ExportError("no")

    with pytest.raises(ExportError, match="no"):
        write_edited(reader, tmp_path / "out", LLAMA_SITES, lambda site, weight: None, check=refuse)
    assert [path.name for path in tmp_path.iterdir()] == ["base"]
