"""A GGUF file becomes another one in which only the edited tensors differ."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGMLQuantizationType as Type
from gguf import LlamaFileType

from heretic.ablation.edit import edit_weight
from heretic.ablation.methods.tensors import StudyTensors
from heretic.config import ExportSettings, ModelSettings
from heretic.errors import ExportError, ModelError
from heretic.export.edits import edit_from
from heretic.export.formats.base import Export
from heretic.export.formats.gguf import Gguf
from heretic.export.formats.gguf import write_gguf as write_edited
from heretic.export.formats.merge import merge
from heretic.export.ggml.about import about, general_keys
from heretic.export.ggml.edited_file import pack_of
from heretic.export.matching import Owner
from heretic.export.readers.base import open_checkpoint
from heretic.export.readers.gguf import GGUFCheckpointReader
from heretic.model.loading.checkpoint import find_checkpoint
from heretic.model.loading.load import load_model
from heretic.ui.plain import PlainReporter
from tests.support.gguf_files import QUANTISED, write_gguf
from tests.support.planted import planted_tokenizer
from tests.support.tiny_checkpoints import LLAMA_SITES, MODES, candidate, direction_of, directions, saved
from tests.support.tiny_tokenizers import byte_level

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


K_QUANTS = [Type.Q2_K, Type.Q3_K, Type.Q4_K, Type.Q5_K, Type.Q6_K, Type.IQ3_S, Type.IQ4_NL, Type.IQ4_XS]


@pytest.mark.parametrize("kind", K_QUANTS)
def test_a_tensor_of_ggmls_own_types_keeps_it(kind: Type, tmp_path: Path) -> None:
    reader = base(tmp_path / "base", QUANTISED | {"ffn_down": kind}, feed_forward=256)
    reports: list[dict[tuple[str, str], int]] = []
    edit_of = edit_from(candidate(1.0), StudyTensors(directions(), {}), "none")
    write_edited(reader, tmp_path / "out", LLAMA_SITES, edit_of, check=lambda _, retyped: reports.append(dict(retyped)))
    written = opened(tmp_path / "out/tiny-heretic.gguf")
    assert reports == [{}]
    assert {t.name: t.tensor_type for t in written.file.tensors} == {t.name: t.tensor_type for t in reader.file.tensors}
    site = LLAMA_SITES[3]
    before = (direction_of(site) @ reader.read_exact(site.key)).norm()
    # Of 32 features only: the sum over them can't be kept as finely as over thousands.
    assert (direction_of(site) @ written.read_exact(site.key)).norm() < (0.4 if kind == Type.Q2_K else 0.2) * before


def test_without_ggml_the_type_is_said_and_written_in_8_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = base(tmp_path / "base", QUANTISED | {"ffn_down": Type.Q4_K}, feed_forward=256)
    monkeypatch.setattr("heretic.export.ggml.blocks.find_ggml", lambda: None)
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


def test_a_file_of_floats_becomes_one_of_a_mixed_type(tmp_path: Path) -> None:
    reader = base(tmp_path / "base", {}, feed_forward=256)
    edit_of = edit_from(candidate(1.0), StudyTensors(directions(), {}), "none")
    write_edited(reader, tmp_path / "out", LLAMA_SITES, edit_of, "Q4_K_M")
    written = opened(tmp_path / "out/tiny-heretic.gguf")
    types = {tensor.name: tensor.tensor_type for tensor in written.file.tensors}
    # Of three layers the first and last are among those with more bits; rows of 32 are no multiple of a block of 256.
    assert types["blk.0.ffn_down.weight"] == Type.Q4_K
    assert types["blk.2.ffn_down.weight"] == Type.Q6_K
    assert types["blk.0.attn_q.weight"] == Type.Q5_0
    assert types["token_embd.weight"] == Type.Q8_0
    assert types["blk.0.attn_norm.weight"] == Type.F32
    assert written.file.fields["general.file_type"].contents() == LlamaFileType.MOSTLY_Q4_K_M
    for key in (LLAMA_SITES[0].key, "model.layers.0.self_attn.q_proj.weight"):
        original = reader.read_exact(key)
        assert (written.read_exact(key) - original).norm() < 0.1 * original.norm()


def test_a_quantised_file_is_not_quantised_as_a_whole(tmp_path: Path) -> None:
    reader = base(tmp_path / "base")
    with pytest.raises(ExportError, match="quantised already"):
        Gguf().check(find_checkpoint(str(reader.path)), ExportSettings(gguf_type="Q4_K_M"))
    Gguf().check(find_checkpoint(str(reader.path)), ExportSettings(gguf_type="Q6_K"))


def test_few_bits_need_an_importance_matrix(tmp_path: Path) -> None:
    reader = base(tmp_path / "base", {})
    with pytest.raises(ExportError, match="importance matrix"):
        Gguf().check(find_checkpoint(str(reader.path)), ExportSettings(gguf_type="IQ2_XS"))


def test_a_split_file_stays_split(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "whole").mkdir()
    write_gguf(tmp_path / "base/tiny.gguf", QUANTISED, parts=3)
    write_gguf(tmp_path / "whole/tiny.gguf", QUANTISED)
    checkpoint = find_checkpoint(str(tmp_path / "base"))
    assert len(checkpoint.weight_files()) == 3
    assert checkpoint.gguf_file is not None
    reader, whole = opened(tmp_path / "base" / checkpoint.gguf_file), opened(tmp_path / "whole/tiny.gguf")
    edit_of = edit_from(candidate(1.0), StudyTensors(directions(), {}), "none")
    for source, out in ((reader, "split"), (whole, "joined")):
        write_edited(source, tmp_path / out, LLAMA_SITES, edit_of)
    parts = sorted(path.name for path in (tmp_path / "split").iterdir())
    assert parts == [f"tiny-heretic-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    joined, split = opened(tmp_path / "joined/tiny-heretic.gguf"), opened(tmp_path / "split" / parts[0])
    content = {tensor.name: tensor.data.tobytes() for tensor in joined.file.tensors}
    assert {tensor.name: tensor.data.tobytes() for tensor in split.file.tensors} == content
    loaded = load_model(find_checkpoint(str(tmp_path / "split")), ModelSettings(dtypes=["float32"]), print)
    same = load_model(find_checkpoint(str(tmp_path / "joined")), ModelSettings(dtypes=["float32"]), print)
    for key, tensor in loaded.model.state_dict().items():
        assert torch.equal(tensor, same.model.state_dict()[key])


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", QUANTISED, parts=3)
    (tmp_path / "tiny-00002-of-00003.gguf").unlink()
    with pytest.raises(ModelError, match="tiny-00002-of-00003"):
        find_checkpoint(str(tmp_path))


def test_a_projector_is_no_model_and_is_copied(tmp_path: Path) -> None:
    reader = base(tmp_path / "base")
    (tmp_path / "base/mmproj-tiny.gguf").write_bytes(b"GGUF projector")
    assert find_checkpoint(str(tmp_path / "base")).gguf_file == "tiny.gguf"
    write_edited(reader, tmp_path / "out", LLAMA_SITES, lambda site, weight: None)
    assert (tmp_path / "out/mmproj-tiny.gguf").read_bytes() == b"GGUF projector"


def test_the_metadata_says_what_was_edited(tmp_path: Path) -> None:
    reader = base(tmp_path / "base")
    export = Export(
        reader, [], lambda *_: None, "owner/tiny", None, ExportSettings(), PlainReporter(sys.stderr), "owner/tiny"
    )
    changes = about(export, general_keys(reader.file))
    write_edited(reader, tmp_path / "out", LLAMA_SITES, lambda site, weight: None, changes=changes)
    written = opened(tmp_path / "out/tiny-heretic.gguf")
    fields = {name: field.contents() for name, field in written.file.fields.items()}
    assert fields["general.name"] == "tiny heretic"
    assert fields["general.base_model.0.repo_url"] == "https://huggingface.co/owner/tiny"
    assert fields["general.tags"] == ["heretic", "uncensored", "decensored", "abliterated"]
    old = {name: field.contents() for name, field in reader.file.fields.items()}
    same = {name for name in old if not name.startswith(("general.", "GGUF."))}
    assert {name: fields[name] for name in same} == {name: old[name] for name in same}
    for before, after in zip(reader.file.tensors, written.file.tensors, strict=True):
        assert before.data.tobytes() == after.data.tobytes()


def test_loading_that_rearranges_a_tensor_is_undone(tmp_path: Path) -> None:
    reader = base(tmp_path / "base")
    key = "model.layers.0.self_attn.k_proj.weight"
    order, stored = reader.order(key), reader.read_exact(key)
    assert order is not None
    assert reader.order(LLAMA_SITES[0].key) is None
    [source] = reader.sources(key)
    shape = tuple(reversed(source.shape.tolist()))
    pack = pack_of(order, Owner(LLAMA_SITES[0], False), source.tensor_type, shape, tuple(stored.shape))
    assert pack.blocks(stored).tobytes() == source.data.tobytes()
    assert torch.equal(pack.weight(source.data), stored)


def with_tokenizer(directory: Path, family: str = "llama", tokenizer: Any = None, **changes: Any) -> Path:
    saved(family, directory, vocab_size=320, **changes)
    (tokenizer or byte_level()).save_pretrained(directory)
    return directory


def test_a_checkpoint_is_converted_with_the_edit_in_it(tmp_path: Path) -> None:
    source = with_tokenizer(tmp_path / "base with a space", shard="40KB")
    assert len(list(source.glob("*.safetensors"))) > 4
    edit_of = edit_from(candidate(1.0), StudyTensors(directions(), {}), "full")
    settings = ExportSettings(gguf_type="F32")
    Gguf().check(find_checkpoint(str(source)), settings)
    export = Export(
        *(open_checkpoint(source), LLAMA_SITES, edit_of, "owner/tiny", None, settings),
        *(PlainReporter(sys.stderr), "owner/tiny", source),
    )
    Gguf().write(export, tmp_path / "out", lambda _: None)
    merge(open_checkpoint(source), tmp_path / "merged", LLAMA_SITES, edit_of)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["tiny-heretic-F32.gguf"]
    models = [
        load_model(find_checkpoint(str(tmp_path / name)), ModelSettings(dtypes=["float32"]), print)
        for name in ("out", "merged")
    ]
    tokens = torch.arange(3, 30)[None]
    with torch.inference_mode():
        found, expected = (model.model(tokens).logits for model in models)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    assert opened(tmp_path / "out/tiny-heretic-F32.gguf").file.fields["general.name"].contents() == "tiny heretic"


def test_what_cannot_be_converted_is_refused_from_the_files(tmp_path: Path) -> None:
    other = with_tokenizer(tmp_path / "family", "gpt2")
    with pytest.raises(ExportError, match="convert_hf_to_gguf"):
        Gguf().check(find_checkpoint(str(other)), ExportSettings())
    split = with_tokenizer(tmp_path / "split", tokenizer=byte_level("[a-z]+"))
    with pytest.raises(ExportError, match="splits a text"):
        Gguf().check(find_checkpoint(str(split)), ExportSettings())
    words = with_tokenizer(tmp_path / "words", tokenizer=planted_tokenizer())
    with pytest.raises(ExportError, match="kind WordLevel"):
        Gguf().check(find_checkpoint(str(words)), ExportSettings())
    rope = dict(rope_type="dynamic", rope_theta=10000.0, factor=2.0)
    scaled = with_tokenizer(tmp_path / "scaled", rope_parameters=rope)
    with pytest.raises(ExportError, match="dynamic"):
        Gguf().check(find_checkpoint(str(scaled)), ExportSettings())


def test_a_failed_check_leaves_nothing(tmp_path: Path) -> None:
    reader = base(tmp_path / "base")

    def refuse(*_: object) -> None:
        raise ExportError("no")

    with pytest.raises(ExportError, match="no"):
        write_edited(reader, tmp_path / "out", LLAMA_SITES, lambda site, weight: None, check=refuse)
    assert [path.name for path in tmp_path.iterdir()] == ["base"]
