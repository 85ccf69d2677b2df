"""Faster parts of a captured decode step, found by measuring: rotary embeddings and gated activations in one kernel
each, instead of nine operations and two."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

import torch
from torch import Tensor, nn

from .gpu_kernels import (
    NO_KERNELS,
    TOLERANCE,
    Activation,
    Gated,
    GpuKernels,
    KernelShape,
    Rotated,
    gpu_kernels,
    kernel_shape,
)

ROTARY = "apply_rotary_pos_emb"
"""The name that transformers gives to the function in each family's module."""

MAX_HEADS, MAX_HEAD_DIM = 128, 256
"""Sizes up to which a program holds all heads of a row in registers."""


@dataclass(frozen=True, slots=True)
class FusedStep:
    """What `applied` replaces: functions of families' modules, for tensors on `device`, and forwards of feed-forward
    networks."""

    device: torch.device
    rotations: dict[str, Rotated]
    networks: dict[nn.Module, Callable[[Tensor], Tensor]]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside the `with` block, forwards of one new position use the kernels. They have no gradient."""
        with ExitStack() as stack:
            for name, kernel in self.rotations.items():
                family = sys.modules[name]
                library = getattr(family, ROTARY)
                stack.callback(setattr, family, ROTARY, library)
                setattr(family, ROTARY, partial(_rotated, kernel, library, self.device))
            for network, forward in self.networks.items():
                own = network.__dict__.get("forward")
                stack.callback(_restore, network, own)
                network.forward = forward
            yield


PLAIN_STEP = FusedStep(torch.device("cpu"), {}, {})
"""The library's own operations."""


@torch.inference_mode()
def find_fused_step(model: Any) -> FusedStep:
    """The parts of a model on a GPU for which a kernel gives what the library computes; none elsewhere."""
    first = next(each for each in model.parameters() if each.is_floating_point())
    shape = kernel_shape(model)
    kernels = gpu_kernels(first.device, first.dtype, shape)
    if kernels == NO_KERNELS:
        return PLAIN_STEP
    names = dict.fromkeys(type(module).__module__ for module in model.modules())
    rotations = {
        name: kernels.rotated
        for name in names
        if kernels.rotated is not None and _rotates_halves(name, kernels.rotated, shape, first)
    }
    found = {module: _fused_network(module, kernels, first) for module in model.modules()}
    return FusedStep(
        first.device, rotations, {module: forward for module, forward in found.items() if forward is not None}
    )


def _rotated(
    kernel: Rotated,
    library: Callable[..., Any],
    device: torch.device,
    q: Any,
    k: Any,
    cos: Any,
    sin: Any,
    *rest: Any,
    **more: Any,
) -> Any:
    """The kernel's result for one position a row, with the tables of all its features; else the library's. Another
    thread may run another model of the family meanwhile, on another device."""
    one_position = all(
        isinstance(each, Tensor)
        and each.device == device
        and each.dim() == 4
        and each.shape[2] == 1
        and each.shape[1] <= MAX_HEADS
        and each.shape[3] <= MAX_HEAD_DIM
        and each.stride(3) == 1
        for each in (q, k)
    )
    tables = one_position and all(
        each.dim() == 3 and each.shape[1:] == (1, q.shape[3]) and each.shape[0] in (1, len(q)) and each.stride(2) == 1
        for each in (cos, sin)
    )
    if rest or more or not tables or k.shape[3] != q.shape[3] or q.shape[3] % 2:
        return library(q, k, cos, sin, *rest, **more)
    return kernel(q, k, cos, sin)


def _rotates_halves(name: str, kernel: Rotated, shape: KernelShape, like: Tensor) -> bool:
    """Whether the family's function rotates the halves of a head by tables of one angle a feature; some rotate pairs of
    neighbours, or only a part."""
    library, head_dim = getattr(sys.modules[name], ROTARY, None), shape.head_dim
    if library is None or head_dim % 2 or head_dim > MAX_HEAD_DIM:
        return False
    draw = torch.Generator().manual_seed(0)
    q, k, cos, sin = (
        torch.randn(size, generator=draw).to(like.device, like.dtype)
        for size in ((2, shape.heads, 1, head_dim), (2, shape.groups, 1, head_dim), (2, 1, head_dim), (2, 1, head_dim))
    )
    try:
        expected = library(q, k, cos, sin)
        return all(_agree(found, each) for found, each in zip(kernel(q, k, cos, sin), expected, strict=True))
    # A function of this name may take other arguments, and return anything.
    except Exception:  # noqa: BLE001
        return False


def _fused_network(module: nn.Module, kernels: GpuKernels, like: Tensor) -> Callable[[Tensor], Tensor] | None:
    """The forward of a network down(activation(gate(x)) * up(x)) with the fused product; None for other modules."""
    parts = [getattr(module, name, None) for name in ("gate_proj", "up_proj", "down_proj")]
    if kernels.gated is None or not all(isinstance(each, nn.Module) for each in parts):
        return None
    gate, up, _ = parts
    width = getattr(gate, "in_features", None)
    if width is None or getattr(gate, "out_features", None) != getattr(up, "out_features", 0):
        return None
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(2, 1, width, generator=draw).to(like.device, like.dtype)
    try:
        expected = module(rows)
        for activation in get_args(Activation):
            forward = partial(_network, kernels.gated, activation, module)
            if _agree(forward(rows), expected):
                return forward
    # As above.
    except Exception:  # noqa: BLE001
        return None
    return None


def _network(kernel: Gated, activation: Activation, module: Any, hidden_states: Tensor) -> Tensor:
    product = kernel(module.gate_proj(hidden_states), module.up_proj(hidden_states), activation)
    result: Tensor = module.down_proj(product)
    return result


def _agree(found: Tensor, expected: Any) -> bool:
    if not isinstance(expected, Tensor) or expected.shape != found.shape or expected.dtype != found.dtype:
        return False
    gap = (found.float() - expected.float()).abs().max()
    return bool(gap <= TOLERANCE[found.dtype] * expected.float().abs().max())


def _restore(module: nn.Module, own: Any) -> None:
    if own is None:
        del module.forward
    else:
        module.forward = own
