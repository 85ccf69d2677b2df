"""The program's Triton kernels, where this machine can compile them and they agree with the plain path."""

import importlib.util
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

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


@cache
def gpu_kernels(device: torch.device, dtype: torch.dtype) -> GpuKernels:
    """The kernels for a device and a dtype, each compiled and compared with the plain path.

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
        edit, attention = _tried_edit(device, dtype), _tried_attention(device, dtype)
        if edit is None and attention is None:
            return NO_KERNELS
        from .rotary_and_gate import gated, rotated

        return GpuKernels(edit, attention, rotated, gated)


def _tried_edit(device: torch.device, dtype: torch.dtype) -> FusedEdit | None:
    try:
        from .fused_edit import fused_edit

        draw = torch.Generator().manual_seed(0)
        left, right = (torch.randn(3, 80, 2, generator=draw).to(device) / 80**0.5 for _ in range(2))
        edit = SiteEdit(left, right, 1 + torch.rand(3, 80, generator=draw).to(device))
        candidates = torch.tensor([2, 0, 1, 1], device=device)
        output = torch.randn(4, 3, 80, generator=draw).to(device, dtype)
        expected = edit_rows(edit, candidates.repeat_interleave(3), output.flatten(0, 1)).view(output.shape)
        return fused_edit if _agrees(fused_edit(edit, candidates, output, None), expected) else None
    # A compiler or a driver may raise anything; the plain path gives the same results.
    except Exception:  # noqa: BLE001
        return None


def _tried_attention(device: torch.device, dtype: torch.dtype) -> MaskedAttention | None:
    try:
        from .masked_attention import masked_attention

        draw = torch.Generator().manual_seed(0)
        query = torch.randn(2, 6, 1, 24, generator=draw).to(device, dtype)
        key, value = (torch.randn(2, 2, 70, 24, generator=draw).to(device, dtype) for _ in range(2))
        mask = torch.full((2, 1, 1, 70), torch.finfo(dtype).min, dtype=dtype, device=device)
        mask[0, ..., 3:20] = 0
        mask[1, ..., 60:] = 0
        scores = query.float() @ key.float().repeat_interleave(3, dim=1).mT * 24**-0.5 + mask.float()
        expected = (scores.softmax(dim=-1) @ value.float().repeat_interleave(3, dim=1)).transpose(1, 2)
        return masked_attention if _agrees(masked_attention(query, key, value, mask, None), expected) else None
    # As above.
    except Exception:  # noqa: BLE001
        return None


def _agrees(found: Tensor, expected: Tensor) -> bool:
    return bool((found.float() - expected).abs().max() <= TOLERANCE[found.dtype] * expected.abs().max())
