"""Rotary embeddings and gated networks of any family are found by measuring; captured steps use the kernels."""

import sys

import pytest
import torch
from torch import Tensor

from heretic.engine.options import PLAIN
from heretic.engine.protocol import no_progress
from heretic.model.kernels.fused_step import ROTARY, find_fused_step
from heretic.model.kernels.gpu_kernels import Activation, GpuKernels
from tests.support.captured_engines import answers, captured, edits_of
from tests.support.engines import PROMPTS, engine_for
from tests.support.plain_kernels import gated, rotated


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls of kernels, which are replaced by torch's operations."""
    calls: list[str] = []

    def rotate(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        calls.append("rotated")
        return rotated(query, key, cos, sin)

    def gate(gate: Tensor, up: Tensor, activation: Activation) -> Tensor:
        calls.append(activation)
        return gated(gate, up, activation)

    monkeypatch.setattr(
        "heretic.model.kernels.fused_step.gpu_kernels", lambda *_: GpuKernels(rotated=rotate, gated=gate)
    )
    return calls


@pytest.mark.parametrize(
    ("family", "rotates", "activation"),
    [("llama", True, "silu"), ("gemma2", True, "gelu_tanh"), ("glm", False, None), ("gpt2", False, None)],
)
def test_parts_are_found_and_responses_stay(
    family: str, rotates: bool, activation: Activation | None, calls: list[str]
) -> None:
    """GLM rotates pairs of neighbours, and its networks have gate and values in one matrix."""
    plain = engine_for(family, 16, PLAIN)
    edits = edits_of(plain, 2, 3)
    expected = answers(plain, edits)
    found = find_fused_step(plain.loaded.model)
    assert bool(found.rotations) == rotates
    assert len(found.networks) == (len(plain.loaded.layers) if activation else 0)
    fast = captured(plain)
    calls.clear()
    assert answers(fast, edits) == expected and fast.uses_cuda_graphs
    assert ("rotated" in calls, activation in calls) == (rotates, activation is not None)


def test_what_is_replaced_is_restored(calls: list[str]) -> None:
    model = engine_for("llama", 16, PLAIN).loaded.model
    found = find_fused_step(model)
    [family], network = found.rotations, next(iter(found.networks))
    library = getattr(sys.modules[family], ROTARY)
    with pytest.raises(ZeroDivisionError), found.applied():
        assert getattr(sys.modules[family], ROTARY) is not library and "forward" in network.__dict__
        raise ZeroDivisionError
    assert getattr(sys.modules[family], ROTARY) is library and "forward" not in network.__dict__


def test_other_positions_tables_and_devices_are_left_to_the_library(calls: list[str]) -> None:
    """A prefill inside the `with` block, a family that rotates a part of the features, and a model elsewhere."""
    engine = engine_for("llama", 16, PLAIN)
    expected = engine.first_token_log_probabilities(PROMPTS, [{}], no_progress)
    found = find_fused_step(engine.loaded.model)
    calls.clear()
    with found.applied():
        assert torch.allclose(engine.first_token_log_probabilities(PROMPTS, [{}], no_progress), expected, atol=1e-5)
        assert "rotated" not in calls
        rotate = getattr(sys.modules[next(iter(found.rotations))], ROTARY)
        query, table = torch.randn(2, 4, 1, 8), torch.randn(2, 1, 8)
        rotate(query, query, table, table)
        assert calls.count("rotated") == 1
        rotate(query, query, table[..., :1], table[..., :1])
        assert calls.count("rotated") == 1
        rotate(*(each.to("meta") for each in (query, query, table, table)))
        assert calls.count("rotated") == 1


def test_nothing_is_measured_on_a_model_whose_steps_are_not_captured(
    calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heretic.engine.cuda_graphs.runner.supports_cuda_graphs", lambda *_: False)
    captured(engine_for("llama", 16, PLAIN))
    assert not calls


def test_other_networks_and_a_wrong_kernel_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = engine_for("llama", 16, PLAIN).loaded.model
    wrong = GpuKernels(rotated=lambda q, k, *_: (q, k), gated=lambda gate, up, _: gate * up)
    monkeypatch.setattr("heretic.model.kernels.fused_step.gpu_kernels", lambda *_: wrong)
    found = find_fused_step(model)
    assert not found.rotations and not found.networks
