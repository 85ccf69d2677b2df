"""Hooks and merges of the experts of a mixture, of all or of chosen ones."""

from dataclasses import replace

import pytest
import torch
from tiny_models import tiny_model
from torch.testing import assert_close

from heretic.ablation.edit import edit_weight
from heretic.ablation.sites import FusedExpertsSite
from heretic.errors import ModelError
from heretic.model.hooks.edits import edited_model
from heretic.model.sites.expert_selection import with_chosen_experts
from heretic.model.sites.find import find_sites, site_weight
from tests.support.edits import IDS, MODES, compiled, compiled_all, merge_in_place
from tests.support.experts import with_experts


@pytest.mark.parametrize("mode", MODES)
def test_expert_modules_are_edited_by_each_rows_own_candidate(mode: str) -> None:
    """An expert gets positions of two candidates without knowing whose they are."""
    model = with_experts()
    sites = find_sites(model)
    edit = compiled(model, sites, 1.0, mode)
    assert len([name for name in edit if "experts" in name]) == 6
    with torch.no_grad():
        before = model(input_ids=IDS).logits
        with edited_model(model, [{}, edit], sites) as applied:
            applied.assign(torch.tensor([1, 0, 1]))
            together = model(input_ids=IDS).logits
        merge_in_place(model, sites, edit)
        merged = model(input_ids=IDS).logits
    assert_close(together[1], before[1], atol=1e-5, rtol=1e-5)
    assert_close(together[[0, 2]], merged[[0, 2]], atol=2e-4, rtol=2e-4)
    assert (merged - before).abs().max() > 1e-2


@pytest.mark.parametrize("implementation", ["eager", "grouped_mm", "batched_mm"])
def test_fused_experts_are_edited_under_every_implementation_of_their_product(implementation: str) -> None:
    model = tiny_model("mixtral")
    model.set_experts_implementation(implementation)
    sites = find_sites(model)
    edit = compiled_all(model, sites)
    with torch.no_grad():
        with edited_model(model, [edit], sites):
            hooked = model(input_ids=IDS).logits
        for site in sites:
            if site.module in edit:
                weight = site_weight(model, site)
                weight.copy_(edit_weight(edit[site.module], weight))
        assert_close(hooked, model(input_ids=IDS).logits, atol=2e-4, rtol=2e-4)


def test_only_the_chosen_experts_are_edited() -> None:
    model = tiny_model("mixtral")
    sites = [replace(site, chosen=(1, 3)) if isinstance(site, FusedExpertsSite) else site for site in find_sites(model)]
    edit = compiled_all(model, sites)
    [site] = [site for site in sites if site.layer == 1 and isinstance(site, FusedExpertsSite)]
    before = site_weight(model, site).clone()
    changed = (edit_weight(edit[site.module], before) - before).flatten(1).norm(dim=1)
    assert (changed > 0.01).tolist() == [False, True, False, True]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["fused", "a module each"])
@torch.no_grad()
def test_the_hooks_of_chosen_experts_equal_the_merge(kind: str, mode: str) -> None:
    model = tiny_model("mixtral") if kind == "fused" else with_experts()
    every = find_sites(model)
    sites = with_chosen_experts(every, {"0": [0, 1, 2], "*": [0, 1]})
    edit = compiled_all(model, sites, mode)
    left = set(compiled_all(model, every, mode)) - set(edit)
    others = {f"model.layers.{layer}.mlp.experts.2.down_proj" for layer in (1, 2)}
    assert left == (set() if kind == "fused" else others)
    with edited_model(model, [edit], sites):
        hooked = model(input_ids=IDS).logits
    for site in [site for site in sites if site.module in edit]:
        weight = site_weight(model, site)
        merged = edit_weight(edit[site.module], weight)
        if isinstance(site, FusedExpertsSite) and site.chosen is not None:
            others = [n for n in range(len(weight)) if n not in site.chosen]
            assert torch.equal(merged[others], weight[others])
        weight.copy_(merged)
    assert_close(hooked, model(input_ids=IDS).logits, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize(
    ("family", "chosen", "message"),
    [
        ("llama", {"*": [0]}, "mixture of experts"),
        ("mixtral", {"*": [4]}, "from 0 to 3 in each layer, got 4"),
        ("mixtral", {"0": [9]}, "from 0 to 3 in layer 0, got 9"),
        ("mixtral", {"7": [0]}, "got layer 7"),
    ],
)
def test_experts_that_do_not_exist_are_an_error(family: str, chosen: dict[str, list[int]], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        with_chosen_experts(find_sites(tiny_model(family)), chosen)


def test_a_router_is_never_a_site() -> None:
    for family in ("mixtral", "gpt_oss", "qwen3_5_moe_text"):
        assert not any("gate." in site.key or "router" in site.key for site in find_sites(tiny_model(family)))
