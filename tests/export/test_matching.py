"""A site finds its weight under any prefix of the checkpoint."""

import pytest
import torch

from heretic.ablation.sites import Site
from heretic.errors import ExportError
from heretic.export.matching import Owner, match_sites
from heretic.export.readers.tensors import TensorInfo


def site(key: str, layer: int) -> Site:
    return Site(layer, "mlp.down_proj", key.removesuffix(".weight"), key)


def infos(*keys: str, dtype: torch.dtype = torch.bfloat16, shape: tuple[int, ...] = (8, 4)) -> list[TensorInfo]:
    return [TensorInfo(key, dtype, shape) for key in keys]


@pytest.mark.parametrize(
    ("key", "stored", "others"),
    [
        ("model.layers.1.mlp.w.weight", "model.layers.1.mlp.w.weight", ["layers.1.mlp.w.weight"]),
        ("transformer.h.1.mlp.w.weight", "h.1.mlp.w.weight", ["h.11.mlp.w.weight", "h.0.mlp.w.weight"]),
        ("h.1.mlp.w.weight", "transformer.h.1.mlp.w.weight", ["transformer.h.2.mlp.w.weight"]),
        (
            "model.language_model.layers.1.mlp.w.weight",
            "language_model.model.layers.1.mlp.w.weight",
            ["vision_tower.model.layers.1.mlp.w.weight"],
        ),
        ("model.layers.1.mlp.1.w.weight", "layers.1.mlp.1.w.weight", ["layers.0.mlp.1.w.weight"]),
    ],
)
def test_the_same_weight_is_found(key: str, stored: str, others: list[str]) -> None:
    assert match_sites([site(key, 1)], infos(*others, stored)) == {stored: Owner(site(key, 1), False)}


def test_another_layer_is_never_taken() -> None:
    with pytest.raises(ExportError, match=r"no weight model\.layers\.1\.w\.weight.*model\.layers\.11\.w\.weight"):
        match_sites([site("model.layers.1.w.weight", 1)], infos("model.layers.11.w.weight", "model.layers.0.w.weight"))


def test_an_expert_of_the_layers_number_is_not_the_layer() -> None:
    with pytest.raises(ExportError, match="holds no weight"):
        match_sites([site("model.layers.1.experts.1.w.weight", 1)], infos("model.layers.0.experts.1.w.weight"))


def test_the_same_name_needs_no_layer() -> None:
    assert set(match_sites([site("shared.w.weight", 1)], infos("shared.w.weight"))) == {"shared.w.weight"}


def test_equally_good_names_are_ambiguous() -> None:
    with pytest.raises(ExportError, match=r"a\.layers\.1\.w\.weight, b\.layers\.1\.w\.weight"):
        match_sites([site("model.layers.1.w.weight", 1)], infos("a.layers.1.w.weight", "b.layers.1.w.weight"))


def test_two_sites_never_share_a_weight() -> None:
    sites = [site("a.layers.1.w.weight", 1), site("b.layers.1.w.weight", 1)]
    with pytest.raises(ExportError, match="both a"):
        match_sites(sites, infos("layers.1.w.weight"))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.float8_e4m3fn])
def test_a_quantised_weight_is_refused_only_at_a_site(dtype: torch.dtype) -> None:
    stored = infos("layers.1.w.weight") + infos("layers.2.w.weight", dtype=dtype)
    assert set(match_sites([site("layers.1.w.weight", 1)], stored)) == {"layers.1.w.weight"}
    with pytest.raises(ExportError, match="full-precision checkpoint"):
        match_sites([site("layers.2.w.weight", 2)], stored)


def test_a_stack_of_matrices_is_no_matrix() -> None:
    with pytest.raises(ExportError, match="should be a matrix"):
        match_sites([site("layers.1.w.weight", 1)], infos("layers.1.w.weight", shape=(2, 8, 4)))
