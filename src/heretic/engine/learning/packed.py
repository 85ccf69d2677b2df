"""Gradients through frozen linear modules with packed weights, whose own products are not differentiable."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import NoGradientError
from ...model.kernels.packed_linear import _multiply
from .replaced import replaced_forwards


class _FrozenProduct(torch.autograd.Function):
    """x W^T + b, computed from the packed copy of W; the gradient of x is g W, computed from the stored W."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, product: Any) -> Tensor:
        ctx.save_for_backward(weight)
        result: Tensor = product(input)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (weight,) = ctx.saved_tensors
        return gradients[0] @ weight, None, None


@contextmanager
def differentiable_products(model: nn.Module) -> Iterator[None]:
    """Lets gradients pass through packed linear modules inside the `with` block; other modules are unchanged."""
    packed = {each: each.__dict__["forward"] for each in model.modules() if _is_packed(each)}
    with replaced_forwards({each: partial(_apply, each, product) for each, product in packed.items()}):
        yield


def check_differentiable(model: nn.Module) -> None:
    """Refuses 4-bit weights that bitsandbytes has packed for inference on a CPU with AVX-512 and bfloat16: their
    product has no gradient, and without a bias it drops the gradient silently.

    Raises:
        NoGradientError: the model holds such weights.
    """
    states = (getattr(getattr(each, "weight", None), "quant_state", None) for each in model.modules())
    if any(getattr(state, "packing_format_for_cpu", False) for state in states):
        raise NoGradientError("bitsandbytes has packed these 4-bit weights for inference on this CPU")


def _is_packed(module: nn.Module) -> bool:
    own = module.__dict__.get("forward")
    return isinstance(own, partial) and own.func is _multiply


def _apply(module: nn.Module, product: Any, input: Tensor) -> Tensor:
    result: Tensor = _FrozenProduct.apply(input, module.weight, product)
    return result
