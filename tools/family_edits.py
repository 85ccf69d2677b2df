"""Edits of a tiny model: hooks, merged weights and a reloaded export give the same logits."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from family_models import Unbuildable, ids, logits
from torch import Tensor, nn

from heretic.ablation.directions import Directions
from heretic.ablation.edit import ModelEdit, edit_weight
from heretic.ablation.methods.kernel.compile import compile_edit
from heretic.ablation.methods.kernel.parameters import KernelParameters
from heretic.ablation.methods.tensors import StudyTensors
from heretic.ablation.parameters import AblationParameters, WeightKernel
from heretic.ablation.sites import MeasuredGain, PostNorm, Site, components_of
from heretic.ablation.weight_stats import weight_stats
from heretic.export.edits import edit_from
from heretic.export.formats.merge import merge
from heretic.export.readers.base import open_checkpoint
from heretic.export.readers.tensors import raw_bytes
from heretic.model.hooks.edits import edited_model
from heretic.model.layers import decoder_layers, width
from heretic.model.sites.feature_gain import measured_gain
from heretic.model.sites.find import site_weight

TOLERANCE = 1e-3
"""A share of the change that the edit makes to the logits; fp32 rounding through a few layers is a hundredth of it."""


def parameters(sites: Sequence[Site], n_layers: int) -> AblationParameters:
    """A candidate that edits every site with a strength of its own layer's."""
    kernel = WeightKernel(
        max_weight=1.0, max_weight_position=n_layers - 1, min_weight=0.5, min_weight_distance=n_layers
    )
    return KernelParameters(
        direction_scope="per layer", direction_index=0.0, kernels=dict.fromkeys(components_of(tuple(sites)), kernel)
    )


def directions(model: nn.Module) -> Directions:
    shape = len(decoder_layers(model)[1]) + 1, width(model)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    return Directions(torch.nn.functional.normalize(noise, dim=1))


def gains(model: nn.Module, sites: Sequence[Site]) -> dict[str, Tensor]:
    downstream = {site.module: site.downstream for site in sites}
    found = {
        name: each.gain for name, each in downstream.items() if isinstance(each, MeasuredGain) and each.gain is not None
    }
    norms = {name: each.name for name, each in downstream.items() if isinstance(each, PostNorm)}
    return found | {module: measured_gain(model.get_submodule(norm), width(model)) for module, norm in norms.items()}


def compiled(model: nn.Module, sites: Sequence[Site], mode: str) -> ModelEdit:
    vectors, known = directions(model), gains(model, sites)
    stats = {s.module: weight_stats(site_weight(model, s), vectors.vectors, known.get(s.module)) for s in sites}
    return compile_edit(parameters(sites, len(vectors.vectors) - 1), vectors, sites, stats, mode)


def hooks_equal_merge(model: nn.Module, sites: Sequence[Site], mode: str) -> float:
    """The largest difference of the logits of hooked and merged weights, as a share of what the edit changes; also
    for two candidates in one batch."""
    edit, tokens = compiled(model, sites, mode), ids()
    before = logits(model, tokens)
    with edited_model(model, [edit], sites):
        hooked = logits(model, tokens)
    with edited_model(model, [{}, edit], sites) as applied:
        applied.assign(torch.tensor([1, 0, 1]))
        mixed = logits(model, tokens)
    kept = {site.module: site_weight(model, site).clone() for site in sites}
    for site in sites:
        weight = site_weight(model, site)
        weight.copy_(edit_weight(edit[site.module], weight.float()))
    merged = logits(model, tokens)
    for site in sites:
        site_weight(model, site).copy_(kept[site.module])
    expected = torch.stack([merged[0], before[1], merged[2]])
    share = max(_share(hooked, merged, before), _share(mixed, expected, before))
    if not share < TOLERANCE:
        raise AssertionError(f"hooked and merged logits differ by {share:.1e} of the change (row_normalization {mode})")
    return share


def _share(first: Tensor, second: Tensor, before: Tensor) -> float:
    moved = float((second - before).abs().max())
    if moved < 1e-4:
        raise AssertionError("the edit changes nothing")
    return float((first - second).abs().max()) / moved


def exports(model: Any, sites: Sequence[Site]) -> float:
    """Writes the model with and without an edit, and loads it again; the reloaded logits' difference as a share."""
    with tempfile.TemporaryDirectory() as directory:
        base, copy, edited = (Path(directory) / name for name in ("base", "copy", "edited"))
        model.save_pretrained(base)
        vectors = directions(model)
        edit_of = edit_from(
            parameters(sites, len(vectors.vectors) - 1), StudyTensors(vectors, gains(model, sites)), "full"
        )
        merge(open_checkpoint(base), copy, sites, lambda *_: None)
        _check_same(base, copy, set())
        merge(open_checkpoint(base), edited, sites, edit_of)
        _check_same(base, edited, None)
        original = type(model).from_pretrained(base, dtype=torch.float32).eval()
        reloaded = type(model).from_pretrained(edited, dtype=torch.float32).eval()
    with torch.inference_mode():
        before = logits(original, ids())
        if not torch.allclose(before, logits(model, ids()), atol=1e-4):
            raise Unbuildable("transformers loads other weights than it has saved, without heretic")
        with edited_model(original, [compiled(original, sites, "full")], sites):
            hooked = logits(original, ids())
        share = _share(logits(reloaded, ids()), hooked, before)
    if not share < TOLERANCE:
        raise AssertionError(f"the reloaded export's logits differ by {share:.1e} of the change")
    return share


def _check_same(base: Path, written: Path, differing: set[str] | None) -> None:
    """Same keys, and the same bytes but where an edit is (`differing` None: somewhere)."""
    first, second = open_checkpoint(base), open_checkpoint(written)
    keys = [info.key for info in first.tensors()]
    if sorted(keys) != sorted(info.key for info in second.tensors()):
        raise AssertionError("the export has other keys than the base")
    changed = {key for key in keys if bytes(raw_bytes(first.read(key))) != bytes(raw_bytes(second.read(key)))}
    if changed != differing if differing is not None else not changed:
        raise AssertionError(f"bytes differ in {sorted(changed)[:3]} of the export")
