"""A merged checkpoint holds the edited weights and, byte for byte, everything else."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from heretic.ablation.edit import SiteEdit
from heretic.ablation.methods.tensors import StudyTensors
from heretic.ablation.sites import PostNorm, Site
from heretic.errors import ExportError
from heretic.export.edits import edit_from
from heretic.export.formats.merge import merge
from heretic.export.readers.base import open_checkpoint
from tests.support.naive import naive_edit
from tests.support.tiny_checkpoints import (
    LLAMA_SITES,
    MODES,
    SITES,
    WIDTH,
    bytes_of,
    candidate,
    direction_of,
    directions,
    logits,
    saved,
    site_weight,
)

EDITED_LAYERS = (1, 2)


def weights(directory: Path) -> dict[str, Tensor]:
    reader = open_checkpoint(directory)
    return {info.key: reader.read(info.key) for info in reader.tensors()}


def export(source: Path, output: Path, family: str = "llama", strength: float = 1.2, mode: str = "full") -> None:
    edit_of = edit_from(candidate(strength), StudyTensors(directions(), {}), mode)
    merge(open_checkpoint(source), output, SITES[family], edit_of, "10KB")


@pytest.mark.parametrize("family", SITES)
def test_the_direction_was_written_before_and_is_not_after(family: str, tmp_path: Path) -> None:
    saved(family, tmp_path / "base")
    export(tmp_path / "base", tmp_path / "out", family, strength=1.0, mode="none")
    before, after = weights(tmp_path / "base"), weights(tmp_path / "out")
    for site in SITES[family]:
        if site.layer in EDITED_LAYERS:
            v = direction_of(site)
            assert (v @ site_weight(before[site.key], site)).norm() > 0.5
            assert (v @ site_weight(after[site.key], site)).norm() < 1e-5


def test_full_normalisation_keeps_every_row_norm_and_none_does_not(tmp_path: Path) -> None:
    saved("llama", tmp_path / "base")
    for mode in ("none", "full"):
        export(tmp_path / "base", tmp_path / mode, mode=mode)
    before = weights(tmp_path / "base")["model.layers.2.mlp.down_proj.weight"].norm(dim=1)
    assert_close(weights(tmp_path / "full")["model.layers.2.mlp.down_proj.weight"].norm(dim=1), before)
    assert (weights(tmp_path / "none")["model.layers.2.mlp.down_proj.weight"].norm(dim=1) - before).abs().max() > 1e-2


@pytest.mark.parametrize("family", SITES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mode", MODES)
def test_sites_equal_the_reference_and_all_else_is_unchanged(
    mode: str, dtype: torch.dtype, family: str, tmp_path: Path
) -> None:
    saved(family, tmp_path / "base", dtype)
    export(tmp_path / "base", tmp_path / "out", family, mode=mode)
    before, after = weights(tmp_path / "base"), weights(tmp_path / "out")
    assert list(before) == list(after)
    sites = {site.key: site for site in SITES[family] if site.layer in EDITED_LAYERS}
    assert len(sites) == 4
    for key, tensor in before.items():
        assert after[key].dtype == dtype
        if key not in sites:
            assert bytes_of(after[key]) == bytes_of(tensor)
            continue
        site = sites[key]
        expected = naive_edit(site_weight(tensor, site), direction_of(site), 1.2, mode)
        tolerance = {} if dtype == torch.float32 else {"rtol": 2**-8, "atol": 1e-6}
        assert_close(site_weight(after[key], site), expected, **tolerance)


@pytest.mark.parametrize("family", SITES)
@pytest.mark.parametrize("mode", MODES)
def test_reloaded_model_answers_as_one_edited_in_memory(mode: str, family: str, tmp_path: Path) -> None:
    model = saved(family, tmp_path / "base")
    base = logits(model)
    for site in SITES[family]:
        if site.layer in EDITED_LAYERS:
            stored = model.get_parameter(site.key).data
            edited = naive_edit(site_weight(stored, site), direction_of(site), 1.2, mode)
            stored.copy_(edited.mT if site.transposed else edited)
    export(tmp_path / "base", tmp_path / "out", family, mode=mode)
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert (logits(reloaded) - base).abs().max() > 0.1
    assert_close(logits(reloaded), logits(model), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("tied", [True, False])
def test_tied_embeddings_stay_as_they_were_stored(tied: bool, tmp_path: Path) -> None:
    model = saved("llama", tmp_path / "base", tie_word_embeddings=tied)
    export(tmp_path / "base", tmp_path / "out")
    assert ("lm_head.weight" in weights(tmp_path / "out")) is not tied
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(reloaded.lm_head.weight, model.lm_head.weight)


def test_sharded_and_bin_checkpoints_give_the_same_export(tmp_path: Path) -> None:
    model = saved("llama", tmp_path / "whole")
    saved("llama", tmp_path / "sharded", shard="20KB")
    (tmp_path / "bin").mkdir()
    torch.save(model.state_dict(), tmp_path / "bin/pytorch_model.bin")
    results = []
    for name in ("whole", "sharded", "bin"):
        export(tmp_path / name, tmp_path / f"{name}-out")
        results.append({key: bytes_of(tensor) for key, tensor in weights(tmp_path / f"{name}-out").items()})
    assert results[0] == results[1] == results[2]


def test_payloads_of_nan_survive(tmp_path: Path) -> None:
    saved("llama", tmp_path / "base", torch.bfloat16)
    file = tmp_path / "base/model.safetensors"
    content = {key: tensor.clone() for key, tensor in load_file(file).items()}
    odd = torch.tensor([0x7FC1, 0x7F81, -1, 0x7FFF], dtype=torch.int16)
    content["model.norm.weight"].view(torch.int16)[:4] = odd
    save_file(content, file, {"format": "pt"})
    export(tmp_path / "base", tmp_path / "out")
    assert torch.equal(weights(tmp_path / "out")["model.norm.weight"].view(torch.int16)[:4], odd)


def test_a_site_without_an_edit_is_left_byte_for_byte(tmp_path: Path) -> None:
    saved("llama", tmp_path / "base", torch.bfloat16)
    seen: list[str] = []

    def edit_of(site: Site, weight: Tensor) -> SiteEdit | None:
        assert weight.dtype == torch.float32
        assert weight.shape[0] == WIDTH
        seen.append(site.key)
        return None

    written: list[int] = []
    merge(open_checkpoint(tmp_path / "base"), tmp_path / "out", LLAMA_SITES, edit_of, progress=written.append)
    before, after = weights(tmp_path / "base"), weights(tmp_path / "out")
    assert {key: bytes_of(tensor) for key, tensor in before.items()} == {k: bytes_of(t) for k, t in after.items()}
    assert sorted(seen) == sorted(site.key for site in LLAMA_SITES)
    assert sum(written) == sum(tensor.nbytes for tensor in before.values())


def test_after_a_post_norm_the_stream_loses_the_direction() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, gain = torch.randn(WIDTH, 48, generator=generator), torch.rand(WIDTH, generator=generator) + 0.5
    site = Site(2, "mlp.down_proj", "m.layers.2.down", "m.layers.2.down.weight", downstream=PostNorm("m.layers.2.norm"))
    edit = edit_from(candidate(1.0), StudyTensors(directions(), {site.module: gain}), "none")(site, weight)
    assert edit is not None
    after = weight - edit.left @ (edit.right.mT @ weight)
    v = direction_of(site)
    assert (v @ (gain[:, None] * weight)).norm() > 1
    assert (v @ (gain[:, None] * after)).norm() < 1e-4


def test_a_missing_gain_is_refused() -> None:
    site = Site(2, "mlp.down_proj", "m.layers.2.down", "m.layers.2.down.weight", downstream=PostNorm("m.layers.2.norm"))
    with pytest.raises(ExportError, match=r"m\.layers\.2\.norm"):
        edit_from(candidate(), StudyTensors(directions(), {}))(site, torch.ones(WIDTH, 4))


def test_companions_are_copied_byte_for_byte(tmp_path: Path) -> None:
    saved("llama", tmp_path / "base")
    (tmp_path / "base/chat_template.jinja").write_text("{{ messages }}  \n")
    config = (tmp_path / "base/config.json").read_bytes()
    export(tmp_path / "base", tmp_path / "out")
    assert (tmp_path / "out/config.json").read_bytes() == config
    assert (tmp_path / "out/chat_template.jinja").read_text() == "{{ messages }}  \n"


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    saved("llama", tmp_path / "base")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    with pytest.raises(ExportError, match="exists already"):
        export(tmp_path / "base", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir() if path.name != "base"] == ["out"]
    assert (tmp_path / "out/mine.txt").read_text() == "mine"
