"""Linear weights in the layout of the CPU's matrix products, packed once instead of at every product."""

from functools import cache, partial

import psutil
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..placement import is_offloaded

ROWS = 64
"""Rows of a product that the layout is chosen for, a usual batch of a search; for others it is little slower."""

MEMORY_FRACTION = 0.25
"""Share of the free memory that the copies may take; the rest is for caches and logits."""

DTYPES = torch.bfloat16, torch.float32


def pack_weights(model: nn.Module) -> bool:
    """Makes linear modules multiply by packed copies of their weights; False, and no change, where that is of no use.

    The copies take as much memory as the weights: none is made where that exceeds a quarter of the free memory.
    """
    linears = [each for each in model.modules() if type(each) is nn.Linear and "forward" not in each.__dict__]
    if any(map(is_offloaded, linears)):
        return False
    plain = all(each.weight.device.type == "cpu" and each.weight.dtype in DTYPES for each in linears)
    size = sum(each.weight.nbytes for each in linears)
    dtypes = {each.weight.dtype for each in linears}
    if not plain or not all(map(can_be_packed, dtypes)) or size > MEMORY_FRACTION * psutil.virtual_memory().available:
        return False
    with torch.inference_mode():
        for module in linears:
            packed = torch.ops.mkldnn._reorder_linear_weight(module.weight, ROWS)
            module.forward = partial(_multiply, packed, module.bias)  # type: ignore[method-assign]
    return bool(linears)


def unpack_weights(model: nn.Module) -> None:
    """Frees the copies."""
    for module in model.modules():
        own = module.__dict__.get("forward")
        if isinstance(own, partial) and own.func is _multiply:
            del module.forward


def _multiply(
    packed: Tensor, bias: Float[Tensor, " d_out"] | None, input: Float[Tensor, "*rows d_in"]
) -> Float[Tensor, "*rows d_out"]:
    # Named as in nn.Linear: some callers pass it as a keyword.
    product: Tensor = torch.ops.mkldnn._linear_pointwise(input, packed, bias, "none", [], "")
    return product


@cache
def can_be_packed(dtype: torch.dtype) -> bool:
    """Whether this machine multiplies by packed weights of a dtype, found by trying: a CPU without AVX-512 has no such
    product in bfloat16, and support differs between torch releases."""
    weight = torch.ones(64, 64, dtype=dtype)
    try:
        _multiply(torch.ops.mkldnn._reorder_linear_weight(weight, ROWS), None, weight)
    except (AttributeError, RuntimeError):  # no such operator in this torch; not on this CPU
        return False
    return True
