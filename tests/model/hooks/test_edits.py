"""Hooked forward, merged weights and naive reference agree, for every family and mode."""

import pytest
import torch
from tiny_models import tiny_model
from torch import Tensor
from torch.testing import assert_close

from heretic.ablation.edit import ModelEdit, edit_weight
from heretic.ablation.methods.kernel.compile import compile_edit, compile_site
from heretic.ablation.methods.kernel.parameters import KernelParameters
from heretic.ablation.parameters import WeightKernel
from heretic.ablation.sites import MeasuredGain, PostNorm, components_of
from heretic.ablation.weight_stats import weight_stats
from heretic.model.hooks.edits import edited_model
from heretic.model.layers import decoder_layers, hidden
from heretic.model.sites.feature_gain import measured_gain
from heretic.model.sites.find import find_sites, site_weight
from tests.support.edits import IDS, MODES, compiled, directions_for, gain_of, merge_in_place, parameters, weight_of
from tests.support.families import FAMILIES, tiny
from tests.support.naive import naive_edit


@pytest.mark.parametrize("family", FAMILIES)
def test_each_dense_layer_has_two_sites(family: str) -> None:
    sites = find_sites(tiny(family))
    assert [(site.layer, site.component) for site in sites] == [
        (layer, component) for layer in range(3) for component in ("attn.o_proj", "mlp.down_proj")
    ]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_hooked_forward_is_that_of_the_merged_model(family: str, mode: str) -> None:
    """With biases, transposed weights, post-norms and parallel blocks, editing outputs equals editing weights."""
    model = tiny(family)
    sites = find_sites(model)
    edit = compiled(model, sites, 1.0, mode)
    with torch.no_grad():
        before = model(input_ids=IDS).logits
        with edited_model(model, [edit], ()):
            hooked = model(input_ids=IDS).logits
        assert (hooked - before).abs().max() > 1e-2
        assert_close(model(input_ids=IDS).logits, before)
        merge_in_place(model, sites, edit)
        assert_close(hooked, model(input_ids=IDS).logits, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_merged_weights_equal_the_naive_edit(family: str, mode: str) -> None:
    model = tiny(family)
    sites = find_sites(model)
    site = sites[3]
    before, width = weight_of(model, site).detach().clone(), weight_of(model, site).shape[0]
    direction = directions_for(width).vectors[2]
    gain = gain_of(model, site, width)
    if gain is not None:
        direction = torch.nn.functional.normalize(direction * gain, dim=0)
    merge_in_place(model, sites, compiled(model, sites, 1.0, mode))
    strength = parameters(sites, 1.0).kernels[site.component].weight(site.layer)
    assert_close(weight_of(model, site), naive_edit(before, direction, strength, mode), atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize("family", ["gemma2", "gemma3_text", "olmo2"])
def test_the_stream_loses_the_direction_after_a_post_norm(family: str) -> None:
    model = tiny(family)
    sites = find_sites(model)
    last = sites[-1]
    assert isinstance(last.downstream, PostNorm)
    written: list[Tensor] = []
    direction = directions_for(32).vectors[2]
    kernel = WeightKernel(max_weight=1.0, max_weight_position=2, min_weight=1.0, min_weight_distance=1)
    full = KernelParameters(
        direction_scope="global", direction_index=1.0, kernels=dict.fromkeys(components_of(sites), kernel)
    )
    gain = gain_of(model, last, 32)
    directions = directions_for(32)
    with torch.no_grad():
        stats = {last.module: weight_stats(weight_of(model, last), directions.vectors, gain)}
        edit = compile_edit(full, directions, [last], stats, "none")
        norm = model.get_submodule(last.downstream.name)
        handle = norm.register_forward_hook(lambda module, args, output: written.append(output.detach()))
        model(input_ids=IDS)
        with edited_model(model, [edit], ()):
            model(input_ids=IDS)
    handle.remove()
    assert (written[0] @ direction).abs().max() > 0.1
    assert_close(written[1] @ direction, torch.zeros(IDS.shape), atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", ["doge", "zaya", "muse_spark"])
@torch.no_grad()
def test_the_stream_loses_the_direction_after_several_gains(family: str) -> None:
    model = tiny_model(family)
    sites = [site for site in find_sites(model) if site.layer == 0]
    site = next(site for site in sites if isinstance(site.downstream, MeasuredGain))
    assert isinstance(site.downstream, MeasuredGain)
    directions, outputs = directions_for(32), []
    direction = directions.vectors[1]
    others = [site_weight(model, each) for each in sites if each is not site]
    for weight in others:
        weight.zero_()
    weight = site_weight(model, site)
    stats = weight_stats(weight, directions.vectors, site.downstream.gain)
    kernel = WeightKernel(max_weight=1.0, max_weight_position=0, min_weight=1.0, min_weight_distance=1)
    full = KernelParameters(direction_scope="global", direction_index=0.0, kernels={site.component: kernel})
    edit = compile_site(full, directions, site, stats, "none")
    assert edit is not None
    layer = decoder_layers(model)[1][0]
    handle = layer.register_forward_hook(lambda module, args, output: outputs.append(hidden(output).clone()))
    for changed in (torch.zeros_like(weight), weight.clone(), edit_weight(edit, weight)):
        weight.copy_(changed)
        model(input_ids=IDS, use_cache=False)
    handle.remove()
    silent, before, after = outputs
    assert ((before - silent) @ direction).abs().max() > 0.1
    assert_close((after - silent) @ direction, torch.zeros(IDS.shape), atol=1e-4, rtol=0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", ["llama", "opt", "gpt2"])
def test_candidates_of_one_batch_are_independent(family: str, mode: str) -> None:
    model = tiny(family)
    sites = find_sites(model)
    edits: list[ModelEdit] = [compiled(model, sites, 1.0, mode), {}, compiled(model, sites, 1.4, mode)]
    rows = torch.tensor([2, 0, 1])
    with torch.no_grad():
        with edited_model(model, edits, ()) as applied:
            applied.assign(rows)
            together = model(input_ids=IDS).logits
        for row, candidate in enumerate(rows.tolist()):
            with edited_model(model, [edits[candidate]], ()):
                alone = model(input_ids=IDS[row : row + 1]).logits[0]
            assert_close(together[row], alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("mode", MODES)
def test_in_16_bits_hooks_and_merge_differ_by_rounding(mode: str) -> None:
    """The hook rounds its output, the merge its weight; both are equally close to fp32."""
    exact = tiny("llama")
    sites = find_sites(exact)
    edit = compiled(exact, sites, 1.0, mode)
    merged = tiny("llama")
    merge_in_place(merged, sites, edit)
    rounded, hooked = merged.bfloat16(), tiny("llama").bfloat16()
    with torch.no_grad():
        with edited_model(exact, [edit], ()):
            reference = exact(input_ids=IDS).logits
        with edited_model(hooked, [edit], ()):
            by_hook = hooked(input_ids=IDS).logits.float()
        by_merge = rounded(input_ids=IDS).logits.float()
    scale = reference.norm()
    # bf16 keeps 8 bits; through three layers its errors add up to a few percent.
    assert (by_hook - reference).norm() / scale < 0.05
    assert (by_merge - reference).norm() / scale < 0.05


def test_a_site_that_never_runs_is_an_error() -> None:
    model = tiny("llama")
    sites = find_sites(model)
    edit = dict(compiled(model, sites, 1.0, "none"))
    model.model.layers[2].mlp.forward = lambda hidden: hidden  # type: ignore[method-assign]
    with (
        torch.no_grad(),
        pytest.raises(RuntimeError, match=r"layers\.2\.mlp\.down_proj"),
        edited_model(model, [edit], ()),
    ):
        model(input_ids=IDS)


def test_hooks_are_removed_after_an_exception() -> None:
    model = tiny("llama")
    edit = compiled(model, find_sites(model), 1.0, "full")
    with torch.no_grad():
        before = model(input_ids=IDS).logits
        with pytest.raises(KeyboardInterrupt), edited_model(model, [edit], ()):
            raise KeyboardInterrupt
        assert_close(model(input_ids=IDS).logits, before)


@pytest.mark.parametrize("family", ["gemma2", "gemma3_text", "olmo2", "glm4"])
def test_the_measured_gain_is_that_of_the_norm(family: str) -> None:
    """Gemma stores gain - 1, others the gain: the measurement does not depend on this."""
    model = tiny(family)
    downstream = find_sites(model)[0].downstream
    assert isinstance(downstream, PostNorm)
    norm = model.get_submodule(downstream.name)
    stored = norm.weight + 1 if "gemma" in family else norm.weight
    assert_close(measured_gain(norm, 32), stored.detach(), atol=1e-4, rtol=1e-4)
