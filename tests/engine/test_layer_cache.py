"""Layers below the first edited one run once, and the results are those of full forwards."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch.testing import assert_close

from heretic.ablation.edit import SiteEdit
from heretic.engine.layer_cache import LowerLayerCache
from heretic.engine.local import LocalEngine
from heretic.engine.options import EngineOptions
from heretic.engine.protocol import no_progress
from tests.support.engines import FAMILIES, PROMPTS, engine_for, some_edit

LENGTH = 10
WITHOUT_CACHE = EngineOptions(cache_lower_layers=False)


def edit_from(engine: LocalEngine, layer: int, seed: int) -> dict[str, SiteEdit]:
    edited = {site.module for site in engine.sites if site.layer >= layer}
    return {name: edit for name, edit in some_edit(engine, seed).items() if name in edited}


def engines(family: str, n_layers: int = 4) -> tuple[LocalEngine, LocalEngine]:
    return (
        engine_for(family, 64, n_layers=n_layers),
        engine_for(family, 64, WITHOUT_CACHE, n_layers=n_layers),
    )


@contextmanager
def counted(engine: LocalEngine) -> Iterator[list[int]]:
    """The number of times that each decoder layer ran its weights."""
    counts = [0] * len(engine.loaded.layers)

    def count(index: int):  # type: ignore[no-untyped-def]
        def hook(*_: object) -> None:
            counts[index] += 1

        return hook

    site_of = {site.layer: site.module for site in engine.sites}
    modules = dict(engine.loaded.model.named_modules())
    handles = [modules[name].register_forward_hook(count(layer)) for layer, name in site_of.items()]
    yield counts
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("family", FAMILIES)
def test_results_are_those_of_full_forwards(family: str) -> None:
    """Baseline first, as in a search, then candidates that begin at several depths, one and two a forward."""
    reusing, plain = engines(family)
    for layer_sets in ([], [3], [1], [2], [3, 2], [1, 3]):
        edits = [edit_from(reusing, layer, seed) for seed, layer in enumerate(layer_sets, 3)] or [{}]
        assert_close(
            reusing.first_token_log_probabilities(PROMPTS, edits, no_progress),
            plain.first_token_log_probabilities(PROMPTS, edits, no_progress),
            atol=1e-5,
            rtol=1e-5,
        )
        assert reusing.generate(PROMPTS, edits, LENGTH, None, no_progress) == plain.generate(
            PROMPTS, edits, LENGTH, None, no_progress
        )
    assert reusing.layer_cache is not None
    assert reusing.layer_cache.enabled


def test_unedited_layers_run_once() -> None:
    engine, _ = engines("llama")
    engine.first_token_log_probabilities(PROMPTS, [{}], no_progress)
    edit = edit_from(engine, 2, 3)
    engine.first_token_log_probabilities(PROMPTS, [edit], no_progress)  # the first time, it is verified
    with counted(engine) as counts:
        engine.first_token_log_probabilities(PROMPTS, [edit], no_progress)
    assert counts[:2] == [0, 0]
    assert min(counts[2:]) > 0


def test_without_a_baseline_the_cache_is_filled_by_candidates() -> None:
    """As after a resume, where the baseline does not generate again."""
    reusing, plain = engines("llama")
    for layer in (3, 2, 1, 3):
        edit = edit_from(reusing, layer, layer)
        assert reusing.generate(PROMPTS, [edit], LENGTH, None, no_progress) == plain.generate(
            PROMPTS, [edit], LENGTH, None, no_progress
        )


def test_edited_layers_are_never_cached() -> None:
    """Where an earlier forward stored deeper states, keys and values of a candidate's own edited layers must not be
    stored."""
    reusing, plain = engines("llama")
    reusing.first_token_log_probabilities(PROMPTS, [{}], no_progress)
    for layer, seed in ((1, 5), (3, 6)):
        edit = edit_from(reusing, layer, seed)
        assert reusing.generate(PROMPTS, [edit], LENGTH, None, no_progress) == plain.generate(
            PROMPTS, [edit], LENGTH, None, no_progress
        )


@pytest.mark.parametrize("budget", [0, 10_000, 40_000])
def test_a_small_budget_changes_no_result(budget: int) -> None:
    reusing, plain = engines("llama")
    reusing.prefill.layer_cache = cache = LowerLayerCache(reusing.loaded.layers, budget)
    for edit in ({}, edit_from(reusing, 3, 1), edit_from(reusing, 2, 2)):
        assert reusing.generate(PROMPTS, [edit], LENGTH, None, no_progress) == plain.generate(
            PROMPTS, [edit], LENGTH, None, no_progress
        )
    assert cache.bytes_left >= 0


def test_layers_that_pass_on_more_than_their_state_disable_the_cache() -> None:
    """One layer leaves a value for another one, outside the hidden state."""
    reusing, plain = engines("llama")
    for engine in (reusing, plain):
        layers = engine.loaded.layers
        left: dict[str, torch.Tensor] = {}
        layers[0].register_forward_pre_hook(lambda _, args, left=left: left.update(state=args[0].clone()))

        def leave(_, args, output, left=left):  # type: ignore[no-untyped-def]
            left["state"] = left["state"] * 0 + output.mean()
            return output

        layers[1].mlp.register_forward_hook(leave)
        layers[3].register_forward_hook(lambda _, args, output, left=left: output + 30 * left["state"])
    for edit in ({}, edit_from(reusing, 3, 1), edit_from(reusing, 3, 2)):
        assert_close(
            reusing.first_token_log_probabilities(PROMPTS, [edit], no_progress),
            plain.first_token_log_probabilities(PROMPTS, [edit], no_progress),
        )
    assert reusing.layer_cache is not None
    assert not reusing.layer_cache.enabled
