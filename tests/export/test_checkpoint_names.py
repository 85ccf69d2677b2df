"""Stored tensors of parameters that transformers regroups on loading."""

from pathlib import Path

import torch
from tiny_models import tiny_model

from heretic.ablation.sites import FusedExpertsSite
from heretic.export.checkpoint_names import stored_parts
from heretic.export.readers.base import open_checkpoint
from heretic.model.sites.find import find_sites


def test_the_experts_of_text_are_the_first_of_those_of_text_and_images(tmp_path: Path) -> None:
    model = tiny_model("ernie4_5_vl_moe")
    site = next(site for site in find_sites(model) if isinstance(site, FusedExpertsSite))
    model.save_pretrained(tmp_path)
    reader = open_checkpoint(tmp_path)
    assert site.key not in {info.key for info in reader.tensors()}
    parts = stored_parts(tmp_path, reader.tensors())[site.key]
    assert [part.expert for part in parts] == list(range(site.n_experts))
    assert torch.equal(torch.stack([reader.read(part.key) for part in parts]), model.get_parameter(site.key))
