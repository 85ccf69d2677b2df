"""Weights in the blocks of a GGUF type: by the gguf package for the types that it writes, by ggml for all others."""

from functools import cache

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

from ...errors import ExportError
from ...installing import install_command
from .library import PACKAGES, find_ggml

EXTRA = "gguf-quants"
FLOATS = frozenset({Type.F32, Type.F16, Type.BF16})
BY_GGML = frozenset(
    {Type.Q2_K, Type.Q3_K, Type.Q4_K, Type.Q5_K, Type.Q6_K}
    | {
        Type.IQ1_S,
        Type.IQ1_M,
        Type.IQ2_XXS,
        Type.IQ2_XS,
        Type.IQ2_S,
        Type.IQ3_XXS,
        Type.IQ3_S,
        Type.IQ4_NL,
        Type.IQ4_XS,
    }
)
"""Types that the gguf package reads and ggml writes. ggml ends the process where it is asked for one it can't write."""

WITH_IMPORTANCE = BY_GGML | {Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1}
"""Types whose codes an importance of each column changes."""


def writable(kind: Type) -> bool:
    """Whether weights can be written as this type here; ggml's own types need a package that contains it."""
    return find_ggml() is not None if kind in BY_GGML else _by_gguf(kind)


@cache
def _by_gguf(kind: Type) -> bool:
    block, _ = gguf.GGML_QUANT_SIZES[kind]
    try:
        gguf.quantize(np.zeros((1, block), dtype=np.float32), kind)
    except NotImplementedError:
        return False
    return True


def needs_importance(kind: Type) -> bool:
    """Whether ggml refuses to write this type without an importance of each column."""
    ggml = find_ggml()
    return kind in BY_GGML and ggml is not None and ggml.needs_importance(kind)


def quantize(values: np.ndarray, kind: Type, importance: np.ndarray | None = None) -> np.ndarray:
    """The blocks of fp32 `values` (…, rows, columns), as (…, rows, bytes).

    `importance` weighs the squared errors of each column, (columns,), or of each matrix's, (matrices, columns). Where a
    type needs it and there is none, all columns count the same.

    Raises:
        ExportError: the type needs ggml, and no installed package contains it.
    """
    if kind not in (WITH_IMPORTANCE if importance is not None else BY_GGML):
        return gguf.quantize(values, kind)
    ggml = find_ggml()
    if ggml is None:
        raise ExportError(
            f"Expected a package with ggml ({', '.join(PACKAGES)}), which quantises to {kind.name}, and found none. "
            f"Install one with: {install_command(EXTRA)}"
        )
    columns = values.shape[-1]
    if importance is None and ggml.needs_importance(kind):
        importance = np.ones(columns, dtype=np.float32)
    if importance is not None and importance.ndim == 2:
        assert len(importance) == len(values), "one row of importances for each matrix"
        return np.stack([quantize(matrix, kind, own) for matrix, own in zip(values, importance, strict=True)])
    blocks = ggml.quantize(values.reshape(-1, columns), kind, importance)
    return blocks.reshape(*values.shape[:-1], blocks.shape[-1])
