"""The program's Triton kernels, where this machine can compile them and they agree with the plain path."""

import importlib.util
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor

from ...ablation.edit import SiteEdit, edit_rows

FusedEdit = Callable[[SiteEdit, Tensor, Tensor, Tensor | None], Tensor]
"""`fused_edit` of fused_edit.py."""

MaskedAttention = Callable[[Tensor, Tensor, Tensor, Tensor, float | None], Tensor]
"""`masked_attention` of masked_attention.py."""

Activation = Literal["silu", "gelu_tanh"]

Rotated = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""`rotated` of rotary_and_gate.py."""

Gated = Callable[[Tensor, Tensor, Activation], Tensor]
"""`gated` of rotary_and_gate.py."""

TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Tolerance as a share of a result's largest number: a few units in the last place."""


@dataclass(frozen=True, slots=True)
class GpuKernels:
    """Kernels that passed their check on this machine; None for one that it can't run. `rotated` and `gated` are
    checked against each model (fused_step.py)."""

    edit: FusedEdit | None = None
    attention: MaskedAttention | None = None
    rotated: Rotated | None = None
    gated: Gated | None = None


NO_KERNELS = GpuKernels()


@dataclass(frozen=True, slots=True)
class KernelShape:
    """Sizes of a model for which kernels are compiled: checked with them, they are compiled once."""

    d_model: int = 80
    heads: int = 6
    groups: int = 2
    head_dim: int = 24


DEFAULT_SHAPE = KernelShape()


def kernel_shape(model: Any) -> KernelShape:
    """The sizes of a model's text decoder; the defaults where its configuration has other names or several sizes."""
    config = model.config.get_text_config(decoder=True)
    names = "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim"
    try:
        width, heads, groups, head_dim = (getattr(config, name, None) for name in names)
    # transformers refuses to name one size where layers differ.
    except RuntimeError:
        return DEFAULT_SHAPE
    if not isinstance(width, int) or not isinstance(heads, int):
        return DEFAULT_SHAPE
    groups, head_dim = groups or heads, head_dim or width // heads
    usable = isinstance(groups, int) and isinstance(head_dim, int) and heads % groups == 0
    return KernelShape(width, heads, groups, head_dim) if usable else DEFAULT_SHAPE


@cache
def gpu_kernels(device: torch.device, dtype: torch.dtype, shape: KernelShape = DEFAULT_SHAPE) -> GpuKernels:
    """The kernels for a device, a dtype and a model's sizes, each compiled and compared with the plain path.

    Triton is a package of its own, and compiles with a C compiler: both may be missing.
    """
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if (
        (device.type != "cuda" and not interpreted)
        or dtype not in TOLERANCE
        or importlib.util.find_spec("triton") is None
    ):
        return NO_KERNELS
    with warnings.catch_warnings(), torch.inference_mode():
        # Triton announces changes of its defaults, which these kernels do not depend on.
        warnings.simplefilter("ignore")
        edit, attention = _tried_edit(device, dtype, shape), _tried_attention(device, dtype, shape)
        if edit is None and attention is None:
            return NO_KERNELS
        from .rotary_and_gate import gated, rotated

        return GpuKernels(edit, attention, rotated, gated)


def _tried_edit(device: torch.device, dtype: torch.dtype, shape: KernelShape) -> FusedEdit | None:
    try:
        from .fused_edit import fused_edit

        draw, width = torch.Generator().manual_seed(0), shape.d_model
        candidates = torch.tensor([2, 0, 1, 1], device=device)
        output = torch.randn(4, 3, width, generator=draw).to(device, dtype)
        # A prefill's edits have a scale where rows keep their norms; those of a captured step always have one.
        for scale in (None, 1 + torch.rand(3, width, generator=draw).to(device)):
            left, right = (torch.randn(3, width, 1, generator=draw).to(device) / width**0.5 for _ in range(2))
            edit = SiteEdit(left, right, scale)
            expected = edit_rows(edit, candidates.repeat_interleave(3), output.flatten(0, 1)).view(output.shape)
            if not _agrees(fused_edit(edit, candidates, output, None), expected):
                return None
        return fused_edit
    # A compiler or a driver may raise anything; the plain path gives the same results.
    except Exception:  # noqa: BLE001
        return None


def _tried_attention(device: torch.device, dtype: torch.dtype, shape: KernelShape) -> MaskedAttention | None:
    try:
        from .masked_attention import masked_attention

        draw, share, dim = torch.Generator().manual_seed(0), shape.heads // shape.groups, shape.head_dim
        query = torch.randn(2, shape.heads, 1, dim, generator=draw).to(device, dtype)
        key, value = (torch.randn(2, shape.groups, 96, dim, generator=draw).to(device, dtype) for _ in range(2))
        mask = torch.full((2, 1, 1, 96), torch.finfo(dtype).min, dtype=dtype, device=device)
        mask[0, ..., 3:20] = 0
        mask[1, ..., 60:] = 0
        scores = query.float() @ key.float().repeat_interleave(share, dim=1).mT * dim**-0.5 + mask.float()
        expected = (scores.softmax(dim=-1) @ value.float().repeat_interleave(share, dim=1)).transpose(1, 2)
        return masked_attention if _agrees(masked_attention(query, key, value, mask, None), expected) else None
    # As above.
    except Exception:  # noqa: BLE001
        return None


def _agrees(found: Tensor, expected: Tensor) -> bool:
    return bool((found.float() - expected).abs().max() <= TOLERANCE[found.dtype] * expected.abs().max())
