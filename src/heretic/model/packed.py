"""Weights in the layout that a CPU's matrix products want, packed once instead of at every product."""

from functools import cache, partial
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from .placement import is_offloaded

ROWS = 64
"""The number of rows that the layout is chosen for; others work, and lose little."""

SHARE_OF_MEMORY = 0.25

DTYPES = torch.bfloat16, torch.float32

OPERATORS = "_reorder_linear_weight", "_linear_pointwise"


def pack_weights(model: nn.Module) -> bool:
    """Lets linear modules multiply by packed copies of their weights; False, and nothing changed, where that is no use.

    The copies take as much memory as the weights: where that is more than a quarter of what is free, none is made.
    """
    linears = [each for each in model.modules() if type(each) is nn.Linear and "forward" not in each.__dict__]
    if any(map(is_offloaded, linears)):
        return False
    plain = all(each.weight.device.type == "cpu" and each.weight.dtype in DTYPES for each in linears)
    size = sum(each.weight.nbytes for each in linears)
    dtypes = {each.weight.dtype for each in linears}
    if not plain or not all(map(can_be_packed, dtypes)) or size > SHARE_OF_MEMORY * psutil.virtual_memory().available:
        return False
    with torch.inference_mode():
        for module in linears:
            packed = torch.ops.mkldnn._reorder_linear_weight(module.weight, ROWS)
            module.forward = partial(_multiply, packed, module.bias)  # type: ignore[method-assign]
    return bool(linears)


def unpack_weights(model: nn.Module) -> None:
    """Gives the copies back."""
    for module in model.modules():
        own = module.__dict__.get("forward")
        if isinstance(own, partial) and own.func is _multiply:
            del module.forward


def _multiply(packed: Tensor, bias: Tensor | None, input: Tensor) -> Tensor:
    # The name is nn.Linear's: some callers give it as a keyword.
    product: Tensor = torch.ops.mkldnn._linear_pointwise(input, packed, bias, "none", [], "")
    return product


@cache
def can_be_packed(dtype: torch.dtype) -> bool:
    """Whether this machine multiplies by packed weights of a dtype, found by doing it: a CPU without AVX-512 has no
    such product in bfloat16, and which CPUs have which differs by torch release."""
    operators: Any = torch.ops.mkldnn
    if not torch.backends.mkldnn.is_available() or not all(map(partial(hasattr, operators), OPERATORS)):
        return False
    try:
        weight = torch.ones(64, 64, dtype=dtype)
        _multiply(operators._reorder_linear_weight(weight, ROWS), None, weight)
    except RuntimeError:
        return False
    return True
