"""The differentiable forward: each shortcut gives the full forward's results, and the gradient is correct."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_models import tiny_model
from torch import Tensor
from torch.testing import assert_close

from heretic.ablation.edit import edit_weight
from heretic.ablation.methods.learned.layout import Layout, compile_learned
from heretic.engine.divergence import kl_divergence
from heretic.engine.learning.forward import AnswerForward
from heretic.errors import ModelError
from heretic.model.kernels.packed_linear import pack_weights
from heretic.model.loading.load import LoadedModel
from heretic.model.sites.find import site_weight
from tests.support.experts import with_experts
from tests.support.families import tiny
from tests.support.learned import forward_of, layout_for, loaded_of, random_tensors, rows, scored


def routed() -> Any:
    """Experts that are modules. The seed makes the router's bias, and so on which side of a choice a position lies:
    there is no gradient across it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return with_experts()


MODELS: dict[str, Callable[[], Any]] = {
    **{
        name: lambda name=name: tiny(name)
        for name in ("llama", "gpt2", "opt", "falcon", "gemma2", "gemma3_text", "olmo2", "cohere", "gpt_neox", "bloom")
    },
    "experts": routed,
    "mixtral": lambda: tiny_model("mixtral"),
    "mamba": lambda: tiny_model("mamba"),
}


def values(
    loaded: LoadedModel, layout: Layout, forward: AnswerForward, paths: list[dict[str, Tensor]]
) -> tuple[Tensor, Tensor]:
    """Divergences and log-probabilities of the same rows under each of `paths`."""
    kept, gone = scored(rows(4)), scored(rows(3, seed=5), (0, 1, 2, 3))
    forward.prepare([each.row for each in kept], [each.row for each in gone])
    numbers = [n for n in range(len(paths)) for _ in kept] + [n for n in range(len(paths)) for _ in gone]
    with forward.edited([compile_learned(each, layout) for each in paths]) as edited:
        divergences, found, batch = edited(kept * len(paths), gone * len(paths), torch.tensor(numbers))
    return divergences * batch.counted[: len(divergences)], found


def naive(loaded: LoadedModel, layout: Layout, tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The same from a merged copy of the model, row by row."""
    model = loaded.model
    kept, gone = scored(rows(4)), scored(rows(3, seed=5), (0, 1, 2, 3))

    def log_probabilities(each: Any) -> Tensor:
        ids = torch.tensor([[*each.row.prompt, *each.row.answer]])
        first = len(each.row.prompt) - 1
        return model(input_ids=ids).logits[0, [first + place for place in each.places]].log_softmax(-1)

    before = [log_probabilities(each) for each in kept]
    for module, edit in compile_learned(tensors, layout).items():
        [site] = [site for site in layout.sites if site.module == module]
        weight = site_weight(model, site)
        weight.copy_(edit_weight(edit, weight))
    divergences = [kl_divergence(old, log_probabilities(each)) for old, each in zip(before, kept, strict=True)]
    found = [log_probabilities(each).gather(-1, torch.tensor(each.tokens)[:, None])[:, 0] for each in gone]
    return torch.stack(divergences), torch.stack(found)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_values_are_those_of_a_merged_model(name: str) -> None:
    loaded = loaded_of(MODELS[name]())
    layout = layout_for(loaded)
    tensors = random_tensors(layout, loaded.d_model)
    divergences, found = values(loaded, layout, forward_of(loaded), [tensors])
    right = naive(loaded, layout, tensors)
    assert_close(divergences[:, :3], right[0], atol=2e-4, rtol=2e-3)
    assert_close(found, right[1], atol=2e-4, rtol=2e-3)
    assert right[0].max() > 1e-4


@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    loaded = loaded_of(MODELS[name]())
    layout = layout_for(loaded)
    forward = forward_of(loaded)
    start = random_tensors(layout, loaded.d_model, rank=2, readers=True)

    def loss(tensors: dict[str, Tensor]) -> Tensor:
        divergences, found = values(loaded, layout, forward, [tensors])
        return divergences.sum() + 0.1 * found.sum()

    tensors = {key: each.clone().requires_grad_(True) for key, each in start.items()}
    loss(tensors).backward()
    draw = torch.Generator().manual_seed(3)
    for key, tensor in tensors.items():
        way = torch.nn.functional.normalize(torch.randn(tensor.shape, generator=draw).flatten(), dim=0).view_as(tensor)
        size = 2e-3
        with torch.no_grad():
            above, below = (loss(start | {key: start[key] + sign * size * way}) for sign in (1, -1))
        assert_close((tensor.grad * way).sum(), (above - below) / (2 * size), atol=2e-2, rtol=3e-2)


def gradients(loaded: LoadedModel, **options: Any) -> list[Tensor]:
    """Of all tensors, with the backward pass inside the edited model."""
    layout = layout_for(loaded)
    forward = forward_of(loaded, **options)
    tensors = {key: each.requires_grad_(True) for key, each in random_tensors(layout, loaded.d_model).items()}
    kept, gone = scored(rows(4)), scored(rows(3, seed=5))
    forward.prepare([each.row for each in kept], [each.row for each in gone])
    with forward.edited([compile_learned(tensors, layout)]) as edited:
        divergences, found, _ = edited(kept, gone, torch.zeros(7, dtype=torch.long))
        (divergences.sum() + 0.1 * found.sum()).backward()
    return [each.grad for each in tensors.values() if each.grad is not None]


@pytest.mark.parametrize("options", [{"checkpoints": True}, {"most_logits": 96 * 5}])
def test_recomputing_changes_nothing(options: dict[str, Any]) -> None:
    kept, recomputed = gradients(loaded_of(tiny("llama"))), gradients(loaded_of(tiny("llama")), **options)
    assert len(kept) == 2
    assert_close(recomputed, kept, atol=1e-4, rtol=1e-3)


def test_gradients_pass_packed_products() -> None:
    loaded = loaded_of(tiny("llama"))
    plain = gradients(loaded)
    pack_weights(loaded.model)
    assert_close(gradients(loaded), plain, atol=1e-4, rtol=1e-3)


def test_paths_side_by_side_are_those_of_each_alone() -> None:
    loaded = loaded_of(tiny("llama"))
    layout = layout_for(loaded)
    forward = forward_of(loaded)
    first = random_tensors(layout, loaded.d_model)
    second = {key: -0.5 * tensor for key, tensor in first.items()}
    with torch.no_grad():
        together = values(loaded, layout, forward, [first, second])
        alone = [values(loaded, layout, forward, [each]) for each in (first, second)]
    for number, both in enumerate(together):
        assert_close(both, torch.cat([each[number] for each in alone]))


def test_a_prefix_of_all_prompts_runs_once() -> None:
    loaded = loaded_of(tiny("llama"))
    layout = layout_for(loaded)
    forward = forward_of(loaded)
    seen: list[int] = []
    mlp = loaded.layers[-1].mlp
    mlp.register_forward_hook(lambda _, __, output: seen.append(output.shape[:2].numel()))
    with torch.no_grad():
        values(loaded, layout, forward, [random_tensors(layout, loaded.d_model)])
        seen.clear()
        values(loaded, layout, forward, [random_tensors(layout, loaded.d_model)])
    prefix, behind = seen
    assert prefix == 5
    assert behind == 7 * 9


def test_pieces_need_no_upper_layers() -> None:
    """They run behind the common prefix, whose states are prepared with all layers."""
    loaded = loaded_of(tiny("llama"))
    seen: list[list[int]] = [[], []]
    for positions, layer in zip(seen, (loaded.layers[0], loaded.layers[-1]), strict=True):
        layer.mlp.register_forward_hook(
            lambda _, __, output, positions=positions: positions.append(output.shape[:2].numel())
        )
    forward = forward_of(loaded)
    forward.prepare(rows(3))
    before = [len(each) for each in seen]
    forward.prepare((), rows(5, seed=9))
    lower, upper = (positions[count:] for positions, count in zip(seen, before, strict=True))
    assert lower == [5, 5 * 11]
    assert upper == [5]


def test_a_model_that_runs_as_a_whole_keeps_the_logits_of_answers_only() -> None:
    """A view would keep those of all rows and positions."""
    forward, [row] = forward_of(loaded_of(tiny("llama"))), rows(1)
    forward.parts.divisible = False
    forward.prepare([row])
    [below], last = forward._baseline.below(scored([row]), [len(row)]), forward._baseline.last(scored([row]), 3)
    assert below.untyped_storage().nbytes() == 0
    assert last.shape[:2] == (1, 3)


def test_4_bit_weights_packed_for_inference_are_refused() -> None:
    """Their product would drop the gradient silently."""
    loaded = loaded_of(tiny("llama"))
    loaded.layers[0].mlp.down_proj.weight.quant_state = SimpleNamespace(packing_format_for_cpu=True)
    with pytest.raises(ModelError, match="4-bit weights"):
        gradients(loaded)
