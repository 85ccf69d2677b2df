"""The check before learning: right gradients pass in every dtype, and missing or wrong ones are named."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_models import tiny_model
from torch import Tensor

from heretic.engine.learning.gradient_fault import gradient_fault
from tests.support.families import tiny
from tests.support.learned import forward_of, layout_for, loaded_of, rows


def fault_of(model: Any, change: Callable[[Tensor], Tensor] | None = None) -> str | None:
    """The fault of a model of which `change` alters the last layer's output."""
    loaded = loaded_of(model)
    if change is not None:
        loaded.layers[-1].register_forward_hook(lambda _, __, output: change(output))
    return gradient_fault(forward_of(loaded), layout_for(loaded), loaded.d_model, rows(4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["llama", "mixtral"])
def test_right_gradients_pass(family: str, dtype: torch.dtype) -> None:
    model = tiny_model(family) if family == "mixtral" else tiny(family)
    assert fault_of(model.to(dtype)) is None


class Wrong(torch.autograd.Function):
    """The identity, with twice its gradient; the head runs the hook of the last layer again."""

    @staticmethod
    def forward(ctx: Any, given: Tensor) -> Tensor:
        return given.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return 2 * gradients[0]


FAULTS: dict[str, tuple[Any, str]] = {
    "detached": (lambda output: output.detach(), "none does: this family computes without autograd"),
    "in place": (lambda output: torch.sigmoid(output).mul_(1.0) * torch.sigmoid(output).exp_().sqrt_(), "autograd"),
    "wrong": (lambda output: Wrong.apply(output), "gradients are wrong"),
    "blocked": (lambda output: output.detach() + 0.0 * output, "gradient of the strengths is zero"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_missing_and_wrong_gradients_are_named(name: str) -> None:
    change, reason = FAULTS[name]
    assert reason in (fault_of(tiny("llama"), change) or "")


def test_lack_of_memory_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("heretic.engine.learning.gradient_fault._gradient", fails)
    assert fault_of(tiny("llama")) is None
