"""A checkpoint's description of a tensor, read before any weight."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
}
"""The element types of safetensors by their name in its header."""
if hasattr(torch, "float8_e8m0fnu"):
    # torch 2.6 does not know it yet.
    DTYPES["F8_E8M0"] = torch.float8_e8m0fnu

DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}

EDITABLE = frozenset({torch.float64, torch.float32, torch.float16, torch.bfloat16})
"""Types that hold a weight itself, not the codes of a quantised one."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Name, element type and shape of one stored tensor."""

    key: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def raw_bytes(tensor: Tensor) -> memoryview:
    """The tensor's bytes in row-major order, without a copy where it is contiguous: NaN payloads survive."""
    # `reshape` first: a tensor without dimensions can't be viewed as another type.
    return tensor.detach().reshape(-1).view(torch.uint8).numpy().data
